#include "folder_writer.h"

#include <utility>

#include "mezzotint/descriptor.h"
#include "mezzotint/version.h"
#include "quant/attention_file.h"
#include "quant/quantized_folder.h"

namespace mezzotint {

FolderWriter::FolderWriter(const std::filesystem::path& out, std::vector<TensorPlan> plan,
                           FolderOptions options)
    : options_(std::move(options)),
      plan_(std::move(plan)),
      folder_(out, {.rank = std::nullopt,
                    .existing = options_.existing,
                    .leftover = Leftover::kDiscard,
                    .recipe = {}}) {
  writer_.emplace(folder_.partial() / weight_file_name(options_.quant_type, std::nullopt), plan_,
                  WriterOptions{.metadata = {}, .max_shard_bytes = options_.max_shard_bytes});
}

void FolderWriter::put(const std::string& name, const Tensor& tensor) {
  writer_->put(name, tensor);
}

void FolderWriter::put_layer(const std::string& name, const ModuleLayer& layer,
                             std::span<const uintptr_t> addresses) {
  for (const NamedTensor& t : layer.file_tensors(addresses)) {
    const std::string full_name = name + "." + t.name;
    writer_->put(full_name, t.tensor);
    labels_[full_name] = t.label;
  }
}

void FolderWriter::finish() {
  Descriptor descriptor;
  descriptor.model_quant_type = options_.quant_type;
  descriptor.facts = options_.facts;
  for (const TensorPlan& tensor : plan_) {
    const auto label = labels_.find(tensor.name);
    descriptor.labels.emplace_back(tensor.name, label == labels_.end() ? "FLOAT" : label->second);
  }
  for (const auto& [name, algorithm] : options_.attentions) {
    descriptor.labels.emplace_back(name + std::string(kAttentionSuffix), algorithm);
  }
  descriptor.facts[facts::kVersion] = version();
  descriptor.facts[facts::kRun] = writer_->finish();
  if (!options_.config.empty()) folder_.write("config.json", options_.config);
  folder_.write(descriptor_file_name(options_.quant_type, std::nullopt),
                descriptor_text(descriptor));
  folder_.mark_complete();
  folder_.publish();
}

}  // namespace mezzotint
