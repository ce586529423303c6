// For tests: folders of their own, and quantized or float files written without the exporter.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "quant/algorithm.h"
#include "quant/quantized_folder.h"
#include "solve/widen.h"

namespace mezzotint {

// A new folder, removed at the end.
class TestFolder {
 public:
  TestFolder() {
    static std::atomic<int> next = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("mezzotint_test_" + std::to_string(getpid()) + "_" + std::to_string(next++));
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string file_text(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

inline Tensor float_tensor(DType dtype, const Shape& shape, const std::vector<float>& values) {
  Tensor tensor = Tensor::allocate(dtype, shape);
  narrow_range(values, tensor, 0);
  return tensor;
}

inline Tensor normal_tensor(DType dtype, const Shape& shape, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(element_count(shape)));
  for (float& value : values) value = normal(random);
  return float_tensor(dtype, shape, values);
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.byte_size())) == 0;
}

// Writes tensors and gives the run id.
inline std::string write_weights(const std::filesystem::path& file, const LayerTensors& tensors) {
  std::vector<TensorPlan> plan;
  for (const NamedTensor& t : tensors) plan.push_back({t.name, t.tensor.dtype(), t.tensor.shape()});
  Writer writer(file, plan);
  for (const NamedTensor& t : tensors) writer.put(t.name, t.tensor);
  return writer.finish();
}

// A quantized folder as another tool might write it.
struct QuantizedFixture {
  std::string type = "W8A8_DYNAMIC";
  LayerTensors tensors;
  std::vector<std::pair<std::string, std::string>> extra_labels;  // without a tensor
  bool facts = false;                                             // as if we had written it

  NamedTensor& at(const std::string& name) {
    for (NamedTensor& t : tensors) {
      if (t.name == name) return t;
    }
    throw Error(ErrorCode::kInternal, "no tensor " + name);
  }
  void erase(const std::string& name) {
    std::erase_if(tensors, [&](const NamedTensor& t) { return t.name == name; });
  }

  Descriptor descriptor() const {
    Descriptor d;
    d.model_quant_type = type;
    for (const NamedTensor& t : tensors) d.labels.emplace_back(t.name, t.label);
    for (const auto& label : extra_labels) d.labels.push_back(label);
    return d;
  }

  // The descriptor's path.
  std::filesystem::path write(const std::filesystem::path& folder) const {
    const std::string run = write_weights(folder / weight_file_name(type, std::nullopt), tensors);
    Descriptor d = descriptor();
    if (facts) d.facts[facts::kRun] = run;
    const std::filesystem::path file = folder / descriptor_file_name(type, std::nullopt);
    write_descriptor(file, d);
    return file;
  }
};

// The error that fn throws; an Error(kInternal) "nothing was thrown" otherwise.
template <typename Fn>
Error error_of(const Fn& fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::kInternal, "nothing was thrown");
}

}  // namespace mezzotint
