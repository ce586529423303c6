// Quantizes any safetensors file or folder and shows progress.
//
//   quantize_file SOURCE OUT ALGORITHM [PATTERN=ALGORITHM]...
//   quantize_file FLUX.1-dev flux-w8a8 w8a8_dynamic '*.norm*=w8a16' 'time_text_embed*=float'
#include <cstdint>
#include <cstdio>
#include <string>

#include "mezzotint/context.h"
#include "mezzotint/error.h"
#include "mezzotint/quantize.h"
#include "mezzotint/report.h"
#include "mezzotint/weights.h"

namespace mz = mezzotint;

namespace {

// Called after every tensor, on the thread that called export_quantized().
void show(const mz::ExportProgress& progress) {
  const double percent =
      100.0 * static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total);
  std::fprintf(stderr, "%5.1f %%  %s", percent, progress.layer.c_str());
  if (progress.weight_sqnr_db != 0) std::fprintf(stderr, "  %.1f dB", progress.weight_sqnr_db);
  std::fprintf(stderr, "\n");
}

void show_worst_layer(const mz::Report& report) {
  const mz::LayerReport* worst = nullptr;
  for (const mz::LayerReport& layer : report.layers) {
    if (layer.weight_sqnr_db == 0) continue;  // kept float
    if (worst == nullptr || layer.weight_sqnr_db < worst->weight_sqnr_db) worst = &layer;
  }
  if (worst != nullptr) {
    std::printf("worst layer: %s %.1f dB\n", worst->name.c_str(), worst->weight_sqnr_db);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s SOURCE OUT ALGORITHM [PATTERN=ALGORITHM]...\n", argv[0]);
    return 2;
  }
  mz::ExportOptions options;
  options.algorithm = argv[3];
  options.progress = show;
  for (int i = 4; i < argc; ++i) {  // the first rule that matches a layer wins
    const std::string rule = argv[i];
    const size_t equals = rule.rfind('=');
    if (equals == std::string::npos) {
      throw mz::Error(mz::ErrorCode::kUsage, "a rule",
                      {.expected = "PATTERN=ALGORITHM", .found = "'" + rule + "'"});
    }
    options.rules.push_back(
        {.pattern = rule.substr(0, equals), .algorithm = rule.substr(equals + 1)});
  }

  const mz::ExecContext ctx({.threads = 2});
  const mz::WeightStore source = mz::WeightStore::open(argv[1]);
  const mz::Report report = mz::export_quantized(source, argv[2], options, ctx);

  std::printf("%s\n", mz::summary(report).c_str());
  show_worst_layer(report);
  for (const std::string& note : report.notes) std::printf("note: %s\n", note.c_str());
  return 0;
} catch (const mz::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return static_cast<int>(error.code());
}
