#include "cli/run_cli.h"

#include <algorithm>
#include <filesystem>
#include <new>
#include <ostream>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "cli/error_text.h"
#include "cli/option_checks.h"
#include "cli/verbs/verb.h"
#include "mezzotint/error.h"
#include "mezzotint/version.h"

namespace mezzotint::cli {
namespace {

constexpr size_t kSuggestions = 3;

// "--max_shard_size=5GB" -> "--max-shard-size=5GB". Values and what follows "--" stay as they are.
void normalize_option_names(std::vector<std::string>& arguments) {
  for (std::string& argument : arguments) {
    if (argument == "--") return;
    if (!argument.starts_with("--")) continue;
    const size_t end = std::min(argument.find('='), argument.size());
    std::replace(argument.begin(), argument.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
  }
}

void add_global_options(CLI::App& app, Session& session) {
  GlobalOptions& options = session.options;
  app.add_flag("--json", options.json, "one JSON document on stdout, also for errors");
  app.add_option("--threads", options.threads, "threads; default: all this process may use")
      ->type_name("N")
      ->check(count_between(1, 4096));
  app.add_flag_callback(
      "-q,--quiet", [&options] { options.verbosity = Verbosity::kQuiet; },
      "results and errors only");
  app.add_flag_function(
      "-v,--verbose",
      [&options](int64_t count) {
        options.verbosity = count > 1 ? Verbosity::kDebug : Verbosity::kVerbose;
      },
      "say more; twice: debug messages");
  app.add_option("--progress", options.progress, "auto, bar, plain or none (on stderr)")
      ->type_name("MODE")
      ->transform(choice_of<ProgressMode>({{"auto", ProgressMode::kAuto},
                                           {"bar", ProgressMode::kBar},
                                           {"plain", ProgressMode::kPlain},
                                           {"none", ProgressMode::kNone}}));
  app.add_option("--color", options.color, "auto, always or never; NO_COLOR is respected")
      ->type_name("WHEN")
      ->transform(choice_of<ColorMode>({{"auto", ColorMode::kAuto},
                                        {"always", ColorMode::kAlways},
                                        {"never", ColorMode::kNever}}));
  app.set_version_flag("--version", fmt::format("mezzotint {}", version()), "print the version");
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::vector<std::string> verb_names() {
  std::vector<std::string> names;
  for (const Verb& verb : verb_table()) names.emplace_back(verb.name);
  return names;
}

// Names that a typing error may have meant; none rather than far-fetched ones.
std::vector<std::string> likely_names(const std::string& typed,
                                      const std::vector<std::string>& names) {
  std::vector<std::string> likely = nearest_names(typed, names, kSuggestions);
  std::erase_if(likely, [&](const std::string& name) {
    return edit_distance(typed, name) > 1 + typed.size() / 3;
  });
  return likely;
}

[[noreturn]] void fail_usage(const std::string& what, const std::vector<std::string>& nearest,
                             const std::string& verb) {
  const std::string help =
      verb.empty() ? "mezzotint --help lists the verbs" : "see mezzotint " + verb + " --help";
  const std::string hint = did_you_mean(nearest);
  throw Error(ErrorCode::kUsage, what, {.fix = hint.empty() ? help : hint + " (" + help + ")"});
}

// CLI11 reports a missing option before an unknown one; a typing error is both, and the unknown
// name says more.
[[noreturn]] void fail_parse(const CLI::App& root, const CLI::ParseError& error) {
  const auto parsed = root.get_subcommands();
  const CLI::App* verb = parsed.empty() ? nullptr : parsed.front();
  const std::string name = verb == nullptr ? "" : verb->get_name();
  const std::vector<std::string> rest = root.remaining(true);
  // Without a verb every later option is unknown too: the verb is what was mistyped.
  if (verb == nullptr && !rest.empty() && !rest.front().starts_with("-")) {
    fail_usage("unknown verb '" + rest.front() + "'", likely_names(rest.front(), verb_names()), "");
  }
  const auto option = std::find_if(rest.begin(), rest.end(),
                                   [](const std::string& a) { return a.starts_with("-"); });
  if (option != rest.end()) {
    const std::string typed = option->substr(0, option->find('='));
    std::vector<std::string> names = option_names(verb == nullptr ? root : *verb);
    if (verb != nullptr) std::ranges::copy(option_names(root), std::back_inserter(names));
    fail_usage("unknown option " + typed, likely_names(typed, names), name);
  }
  if (!rest.empty()) fail_usage("unexpected argument '" + rest.front() + "'", {}, name);
  fail_usage(error.what(), {}, name);
}

// An empty value is a variable of a script that is not set; going on as if the option were not
// there would run something else than was asked for.
void refuse_empty_values(const CLI::App& app, const std::string& verb) {
  for (const CLI::Option* option : app.get_options()) {
    if (std::ranges::find(option->results(), "") == option->results().end()) continue;
    fail_usage(option->get_name() + ": the value is empty", {}, verb);
  }
}

// --help and --version, which CLI11 knows as errors.
int print_asked(const Session& session, const CLI::App& app, const CLI::ParseError& asked,
                std::ostream& out, std::ostream& err) {
  if (!session.options.json) return app.exit(asked, out, err);
  std::ostringstream text;
  app.exit(asked, text, err);
  const bool is_version = dynamic_cast<const CLI::CallForVersion*>(&asked) != nullptr;
  session.emit(is_version ? nlohmann::json{{"version", version()}}
                          : nlohmann::json{{"help", text.str()}});
  return 0;
}

int parse_and_run(Session& session, std::vector<std::string> arguments, std::ostream& out,
                  std::ostream& err) {
  CLI::App app("Low-bit inference for diffusion transformers.", "mezzotint");
  app.get_formatter()->column_width(34);
  add_global_options(app, session);
  app.require_subcommand(1, 1);
  std::vector<std::pair<CLI::App*, RunVerb>> verbs;
  for (const Verb& verb : verb_table()) {
    CLI::App* sub = app.add_subcommand(std::string(verb.name), std::string(verb.summary));
    sub->fallthrough();
    verbs.emplace_back(sub, verb.define(*sub));
  }
  if (arguments.empty()) {
    err << app.help();
    return static_cast<int>(ErrorCode::kUsage);
  }
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return print_asked(session, app, error, out, err);
    fail_parse(app, error);
  }
  for (const auto& [sub, run] : verbs) {
    if (!sub->parsed()) continue;
    refuse_empty_values(*sub, sub->get_name());
    return run(session);
  }
  throw Error(ErrorCode::kInternal, "a verb without a function");
}

int report(const Session& session, const Error& error) {
  session.err() << session.paint_err(Tone::kBad, "error: ") << error_text(error) << '\n'
                << std::flush;
  session.emit(error_json(error));
  return static_cast<int>(error.code());
}

}  // namespace

int run_cli(std::vector<std::string> arguments, const Terminal& terminal, std::ostream& out,
            std::ostream& err) {
  Session session(terminal, arguments, out, err);
  normalize_option_names(arguments);
  // Known before parsing, which may fail.
  session.options.json = std::ranges::find(arguments, "--json") != arguments.end();
  try {
    return parse_and_run(session, std::move(arguments), out, err);
  } catch (const Error& error) {
    return report(session, error);
  } catch (const std::bad_alloc&) {
    return report(session, Error(ErrorCode::kResources, "not enough memory"));
  } catch (const std::filesystem::filesystem_error& error) {
    return report(session, Error(ErrorCode::kInput, error.code().message(),
                                 {.file = error.path1().string()}));
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) {
      return report(session, Error(ErrorCode::kInternal, error.what()));
    }
    return report(session, Error(ErrorCode::kResources, "a thread cannot be started",
                                 {.found = error.code().message(),
                                  .fix = "allow more memory or processes (ulimit -v, ulimit -u)"}));
  } catch (const std::exception& error) {
    return report(session, Error(ErrorCode::kInternal, error.what()));
  }
}

}  // namespace mezzotint::cli
