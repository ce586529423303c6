// A quantized folder from a model in memory, tensor by tensor.
//
//   FolderWriter writer(out, plan, {.quant_type = "W8A8_DYNAMIC"});
//   writer.put("norm.weight", tensor);
//   writer.put_layer("blocks.0.to_q", layer, addresses);
//   writer.finish();                                       // only now the folder appears
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mezzotint/weights.h"
#include "module_layer.h"
#include "quant/staging_folder.h"

namespace mezzotint {

struct FolderOptions {
  std::string quant_type;                    // of the file names and of model_quant_type
  std::map<std::string, std::string> facts;  // metadata.mezzotint, but for the run
  std::vector<std::pair<std::string, std::string>> attentions;  // name, algorithm
  std::string config;                                           // text of config.json, or empty
  int64_t max_shard_bytes = 0;
  Existing existing = Existing::kRefuse;
};

class FolderWriter {
 public:
  // `plan`: every tensor of the folder. Throws Error(kUsage) where files are and may not be
  // replaced.
  FolderWriter(const std::filesystem::path& out, std::vector<TensorPlan> plan,
               FolderOptions options);
  FolderWriter(const FolderWriter&) = delete;

  void put(const std::string& name, const Tensor& tensor);  // under the label FLOAT
  // The tensors of the file, below `name`.
  void put_layer(const std::string& name, const ModuleLayer& layer,
                 std::span<const uintptr_t> addresses);
  void finish();

 private:
  FolderOptions options_;
  std::vector<TensorPlan> plan_;
  StagingFolder folder_;
  std::optional<Writer> writer_;
  std::map<std::string, std::string> labels_;  // of tensors that are not FLOAT
};

}  // namespace mezzotint
