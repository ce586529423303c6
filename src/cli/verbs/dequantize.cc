#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/layer_summary.h"
#include "cli/output_check.h"
#include "cli/text.h"
#include "cli/verbs/verb.h"
#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string source;
  std::string out;
  bool force = false;
};

void check_places(const Options& options) {
  if (fs::path(options.out).extension() != ".safetensors") {
    throw Error(ErrorCode::kUsage, "the output of dequantize is one file",
                {.expected = "a name that ends in .safetensors", .found = options.out});
  }
  check_output_file(options.out, options.force ? Existing::kReplace : Existing::kRefuse);
  const QuantizedFiles files = find_quantized_files(options.source);
  for (const fs::path& source : {files.weights, files.descriptor}) {
    std::error_code failed;
    if (fs::equivalent(source, options.out, failed) && !failed) {
      throw Error(ErrorCode::kUsage, "the output is the source",
                  {.file = options.out, .fix = "choose another name with -o"});
    }
  }
}

int run(Session& session, const Options& options) {
  check_places(options);
  const auto started = std::chrono::steady_clock::now();
  Progress progress = session.progress("dequantizing");
  const DequantizeOptions dequantize_options = {
      .progress =
          [&progress](const ExportProgress& state) {
            progress.update(static_cast<double>(state.bytes_done),
                            static_cast<double>(state.bytes_total), state.layer);
          },
      .overwrite = options.force};
  const Report report =
      dequantize(options.source, options.out, dequantize_options, session.context());
  progress.finish();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  for (const std::string& note : report.notes) session.note("note   " + printable(note));
  session.print(session.paint(Tone::kGood, "done   " + summary(report)));
  session.print(fmt::format("wrote  {}  {} in {}", options.out,
                            human_bytes(static_cast<int64_t>(fs::file_size(options.out))),
                            human_seconds(seconds)));
  session.emit({{"out", options.out}, {"seconds", seconds}, {"report", report_json(report)}});
  return 0;
}

}  // namespace

RunVerb define_dequantize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("DIR", options->source, "quantized folder or descriptor")->required();
  app.add_option("-o,--output,--out", options->out, "the file to write")
      ->type_name("FILE.safetensors")
      ->required();
  app.add_flag("--force", options->force, "replace an existing output");
  return [options](Session& session) { return run(session, *options); };
}

}  // namespace mezzotint::cli
