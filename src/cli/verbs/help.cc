#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "cli/text_table.h"
#include "cli/verbs/verb.h"
#include "mezzotint/error.h"

namespace mezzotint::cli {
namespace {

struct Options {
  std::string verb;
  bool markdown = false;
};

std::string option_cell(const CLI::Option& option) {
  std::string cell = "`" + option.get_name(option.get_positional(), true);
  const std::string type = option.get_type_name();
  if (option.get_items_expected_max() > 0 && !option.get_positional() && !type.empty()) {
    cell += " " + type;
  }
  return cell + "`";
}

TextTable option_table(const CLI::App& app) {
  TextTable table{{{"Option"}, {"Meaning"}}, {}};
  for (const CLI::Option* option : app.get_options()) {
    if (option->check_lname("help")) continue;
    std::string meaning = option->get_description();
    if (option->get_required()) meaning += " (required)";
    table.rows.push_back({option_cell(*option), meaning});
  }
  return table;
}

std::string markdown(const CLI::App& root) {
  TextTable verbs{{{"Verb"}, {"What it does"}}, {}};
  for (const Verb& verb : verb_table()) {
    verbs.rows.push_back({fmt::format("`{}`", verb.name), std::string(verb.summary)});
  }
  std::string text = to_markdown(verbs);
  text += "\nOptions of every verb:\n\n" + to_markdown(option_table(root));
  for (const CLI::App* app : root.get_subcommands([](const CLI::App*) { return true; })) {
    const TextTable options = option_table(*app);
    if (options.rows.empty()) continue;
    text += fmt::format("\n### {}\n\n{}", app->get_name(), to_markdown(options));
  }
  return text;
}

const CLI::App& find_verb(const CLI::App& root, const std::string& name) {
  std::vector<std::string> names;
  for (const CLI::App* app : root.get_subcommands([](const CLI::App*) { return true; })) {
    if (app->get_name() == name) return *app;
    names.push_back(app->get_name());
  }
  throw Error(ErrorCode::kUsage, "unknown verb '" + name + "'",
              {.fix = did_you_mean(nearest_names(name, names, 3))});
}

}  // namespace

RunVerb define_help(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("VERB", options->verb, "the verb to explain");
  app.add_flag("--markdown", options->markdown, "every verb and option as Markdown tables");
  return [options, &app](Session& session) {
    CLI::App& root = *app.get_parent();
    std::string text;
    if (options->markdown) {
      text = markdown(root);
    } else {
      // Not help(): once a verb is parsed, the root's own is that of the verb.
      const CLI::App& verb = options->verb.empty() ? root : find_verb(root, options->verb);
      const std::string name = options->verb.empty() ? "mezzotint" : "mezzotint " + options->verb;
      text = root.get_formatter()->make_help(&verb, name, CLI::AppFormatMode::Normal);
    }
    while (text.ends_with('\n')) text.pop_back();
    session.print(text);
    session.emit({{"help", text}});
    return 0;
  };
}

}  // namespace mezzotint::cli
