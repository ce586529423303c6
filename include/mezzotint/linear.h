// A linear layer y = x W^T + b, float or quantized: one class, no hierarchy; what it does is data.
//
//   Linear l = Linear::from_float("proj_out", w, b);   // w:[n,k]
//   l.run(x, y, ctx);                                  // x:[m,k] y:[m,n], y.dtype == x.dtype
//
// A Linear is immutable while it runs: run() is const and may be called from several threads.
// quantize() (quantize.h) swaps what it holds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/context.h"
#include "mezzotint/export.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

struct LinearState;  // plan + packed weight + small float vectors (src/nn/linear_state.h)

class MZ_API Linear {
 public:
  Linear() = default;  // empty; run() throws
  Linear(std::string name, int64_t out_features, int64_t in_features,
         std::shared_ptr<const LinearState> state);

  // weight:[n,k] F32, BF16 or F16 (kept as it is); bias:[n] any float dtype, or none.
  static Linear from_float(std::string name, const Tensor& weight,
                           const std::optional<Tensor>& bias);

  const std::string& name() const noexcept { return name_; }
  int64_t in_features() const noexcept { return in_features_; }
  int64_t out_features() const noexcept { return out_features_; }
  bool has_bias() const noexcept;
  std::string_view algorithm() const noexcept;  // "FLOAT", "W8A8_DYNAMIC", ...
  // Name of the kernel row that serves m rows of x, of this float type.
  std::string_view kernel(int64_t m, DType x = DType::kF32) const;
  int64_t resident_bytes() const noexcept;  // packed weight + scales + bias
  const std::shared_ptr<const LinearState>& state() const noexcept { return state_; }
  void set_state(std::shared_ptr<const LinearState> state);  // throws when n or k differ

  // x:[m,in] F32, BF16 or F16; y:[m,out] of the same dtype. m may be 0. Throws Error(kUsage) on a
  // wrong shape or dtype, naming the layer.
  void run(const ConstMatrix& x, const Matrix& y, const ExecContext& ctx) const;

 private:
  std::string name_;
  int64_t in_features_ = 0;
  int64_t out_features_ = 0;
  std::shared_ptr<const LinearState> state_;
};

// Linears that read the same input: x is quantized once for all members that agree on how.
// Statistics and shared smoothing follow the same groups.
struct LinearGroup {
  std::string name;              // what a Tap sees
  std::vector<Linear*> members;  // not owned
};

// y[i] is the output of members[i].
MZ_API void run_group(const LinearGroup& group, const ConstMatrix& x, std::span<const Matrix> y,
                      const ExecContext& ctx);

}  // namespace mezzotint
