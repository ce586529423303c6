// Reads the tensors of a Flux model by name and remembers which ones were read.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "mezzotint/attention.h"
#include "mezzotint/linear.h"
#include "mezzotint/tensor.h"
#include "mezzotint/weights.h"

namespace mezzotint {

// What to do with a linear whose float weight is absent.
enum class Missing : uint8_t {
  kRefuse,
  kLeaveEmpty,  // a named Linear of the right size, for quantize() to fill; the file is quantized
};

class FluxLoader {
 public:
  FluxLoader(const WeightStore& store, Missing missing);

  // name.weight:[out,in] and name.bias:[out].
  Linear linear(const std::string& name, int64_t out_features, int64_t in_features);
  // Widened to F32.
  Tensor vector(const std::string& name, int64_t size);
  // A slot. What quantized files hold beside it is left to quantize().
  Attention attention(const std::string& name, const AttentionShape& shape);
  // Throws Error(kInput) listing the tensors that nothing asked for.
  void refuse_unread() const;

 private:
  Tensor read(const std::string& name, const Shape& shape);
  bool is_float_weight(const std::string& name) const;
  bool belongs_to_empty_linear(const std::string& tensor) const;

  const WeightStore& store_;
  Missing missing_;
  std::unordered_set<std::string> read_;
  std::unordered_set<std::string> of_attentions_;  // names that quantized files may hold
  std::vector<std::string> empty_;  // names of the linears left empty, with a final dot
};

}  // namespace mezzotint
