#include "bench/aocl_dlp/aocl_dlp_cases.h"

#include <aocl_dlp.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "bench/peer_case.h"
#include "numerics/bf16.h"

namespace mezzotint::bench {
namespace {

// Values that begin where a cache line does, as ours: large vectors of the standard library begin
// 16 bytes behind.
template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* values, size_t) { ::operator delete(values, kLine); }
  bool operator==(const LineAllocator&) const = default;
};
template <typename T>
using Values = std::vector<T, LineAllocator<T>>;

// Numbers of [-0.94, 0.94], or codes of [-30, 30].
int code_at(size_t i) { return static_cast<int>(i % 61) - 30; }
void fill(Values<float>& values) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(code_at(i)) / 32;
}
void fill(Values<bfloat16>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<bfloat16>(bf16_from_float(static_cast<float>(code_at(i)) / 32));
  }
}
void fill(Values<int8_t>& values) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int8_t>(code_at(i));
}

dlp_sf_t scales(Values<float>& values, DLP_PARAM_DIM_TYPE per) {
  return {.scale_factor = values.data(),
          .scale_factor_len = static_cast<md_t>(values.size()),
          .scale_factor_type = DLP_F32,
          .scale_factor_dim = per};
}

// The library's functions of one pair of types. Of two int4 a byte of w holds the even column low.
template <typename X_, typename W_, typename Y_>
struct Functions {
  using X = X_;
  using W = W_;
  using Y = Y_;
  decltype(&aocl_get_reorder_buf_size_bf16bf16f32of32) size_of_w;
  void (*reorder)(char, char, char, const W*, W*, md_t, md_t, md_t, dlp_metadata_t*);
  void (*multiply)(const LinearShape&, const X*, const W*, Y*, dlp_metadata_t*);
  bool has_scales = false;
  int64_t group = 0;  // of k that share a scale of w; 0: none
};

template <auto kGemm, typename X, typename W, typename Y>
void multiply_by(const LinearShape& shape, const X* x, const W* w, Y* y, dlp_metadata_t* metadata) {
  constexpr char kRowMajor = 'r', kPlain = 'n', kReordered = 'r';
  kGemm(kRowMajor, kPlain, kPlain, shape.m, shape.n, shape.k, 1, x, shape.k, kPlain, w, shape.n,
        kReordered, 0, y, shape.n, metadata);
}

struct NotSupported {};

template <typename F>
class Problem {
 public:
  Problem(const LinearShape& shape, const F& functions) : shape_(shape), functions_(functions) {
    fill(x_);
    fill(bias_);
    fill(scales_of_x_);
    fill(scales_of_w_);
    reorder_weights();
    run(1);  // an error is an error of this call, not of a measurement
  }

  void run(int threads) {
    dlp_thread_set_num_threads_library(threads);
    dlp_sf_t of_x = scales(scales_of_x_, DLP_PARAM_DIM_PER_TOKEN);
    dlp_sf_t of_w = scales(scales_of_w_, DLP_PARAM_DIM_PER_CHANNEL);
    dlp_scale_t two[] = {{.sf = &of_x, .zp = nullptr}, {.sf = &of_w, .zp = nullptr}};
    dlp_post_op_bias bias{};
    bias.bias = bias_.data();
    bias.stor_type = DLP_F32;
    bias.bias_len = static_cast<md_t>(bias_.size());
    dlp_pre_op groups{};
    groups.b_scl = &of_w;
    groups.seq_length = 1;
    groups.group_size = functions_.group;
    DLP_POST_OP_TYPE scaled_with_bias[] = {SCALE, SCALE, BIAS};
    dlp_metadata_t how{};
    how.bias = &bias;
    how.scale = functions_.has_scales ? two : nullptr;
    how.seq_vector = functions_.has_scales ? scaled_with_bias : scaled_with_bias + 2;
    how.seq_length = functions_.has_scales ? 3 : 1;
    how.pre_ops = functions_.group != 0 ? &groups : nullptr;
    functions_.multiply(shape_, x_.data(), w_.data(), y_.data(), &how);
    check(how, "the product");
  }

 private:
  void reorder_weights() {
    constexpr char kRowMajor = 'r', kPlain = 'n', kOfW = 'b';
    const bool is_int4 = functions_.group != 0;
    Values<typename F::W> plain(static_cast<size_t>(shape_.k * shape_.n) / (is_int4 ? 2 : 1));
    fill(plain);
    dlp_metadata_t how{};
    const auto bytes = static_cast<size_t>(
        functions_.size_of_w(kRowMajor, kPlain, kOfW, shape_.k, shape_.n, &how));
    check(how, "the size of w");
    w_.resize((bytes + sizeof(typename F::W) - 1) / sizeof(typename F::W));
    functions_.reorder(kRowMajor, kPlain, kOfW, plain.data(), w_.data(), shape_.k, shape_.n,
                       shape_.n, &how);
    check(how, "the order of w");
  }

  static void check(const dlp_metadata_t& how, std::string_view what) {
    const auto error = how.error_hndl.error_code;
    if (error == DLP_CLSC_SUCCESS) return;
    if (error == DLP_CLSC_NOT_SUPPORTED) throw NotSupported();
    throw std::runtime_error(fmt::format("AOCL-DLP refuses {}: error {} of its dlp_errors.h", what,
                                         static_cast<int>(error)));
  }

  size_t of(int64_t rows, int64_t columns) const { return static_cast<size_t>(rows * columns); }

  LinearShape shape_;
  F functions_;
  Values<typename F::X> x_ = Values<typename F::X>(of(shape_.m, shape_.k));
  Values<typename F::W> w_;
  Values<typename F::Y> y_ = Values<typename F::Y>(of(shape_.m, shape_.n));
  Values<float> bias_ = Values<float>(of(shape_.n, 1));
  Values<float> scales_of_x_ = Values<float>(of(shape_.m, 1));
  Values<float> scales_of_w_ =
      Values<float>(of(shape_.n, functions_.group == 0 ? 1 : shape_.k / functions_.group));
};

using Int8 = Functions<int8_t, int8_t, bfloat16>;
using BFloat16 = Functions<bfloat16, bfloat16, bfloat16>;
using Int4Weights = Functions<bfloat16, int8_t, bfloat16>;

constexpr Int8 kInt8{aocl_get_reorder_buf_size_s8s8s32os32, aocl_reorder_s8s8s32os32,
                     multiply_by<aocl_gemm_s8s8s32obf16>, true};
constexpr BFloat16 kBFloat16{aocl_get_reorder_buf_size_bf16bf16f32of32,
                             aocl_reorder_bf16bf16f32of32, multiply_by<aocl_gemm_bf16bf16f32obf16>};
constexpr Int4Weights int4_weights(int64_t group) {
  return {aocl_get_reorder_buf_size_bf16s4f32of32, aocl_reorder_bf16s4f32of32,
          multiply_by<aocl_gemm_bf16s4f32obf16>, false, group};
}

// Null where the library has no such product on this processor.
template <typename F>
std::function<void(int threads)> problem(const LinearShape& shape, const F& functions) {
  if (functions.group != 0 && shape.k % functions.group != 0) return nullptr;
  try {
    auto made = std::make_shared<Problem<F>>(shape, functions);
    return [made](int threads) { made->run(threads); };
  } catch (const NotSupported&) {
    return nullptr;
  }
}

struct Form {
  const char* path;  // of ours
  std::function<void(int threads)> (*make)(const LinearShape& shape);
};

constexpr Form kForms[] = {
    {"int8", [](const LinearShape& shape) { return problem(shape, kInt8); }},
    {"bf16", [](const LinearShape& shape) { return problem(shape, kBFloat16); }},
    {"w4a16_g64", [](const LinearShape& shape) { return problem(shape, int4_weights(64)); }},
    {"w4a16_g128", [](const LinearShape& shape) { return problem(shape, int4_weights(128)); }},
};

std::string library() {
  int major = 0, minor = 0, patch = 0;
  dlp_version_query(&major, &minor, &patch);
  return fmt::format("AOCL-DLP {}.{}.{}", major, minor, patch);
}

}  // namespace

std::vector<Case> aocl_dlp_cases(const LinearShape& shape, const CaseOptions& options) {
  std::vector<Case> cases;
  for (const Form& form : kForms) {
    const Path* path = compared_path(form.path, shape, options);
    if (path == nullptr) continue;
    const std::function<void(int threads)> call = form.make(shape);
    if (!call) continue;
    for (const int threads : options.threads) {
      cases.push_back(peer_case("aocl_dlp", library(), *path, shape, threads,
                                [call, threads] { call(threads); }));
    }
  }
  return cases;
}

}  // namespace mezzotint::bench
