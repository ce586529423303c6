#include "collect/attention_observer.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "base/cpu_features.h"
#include "collect/step_check.h"
#include "mezzotint/error.h"
#include "nn/attention_state.h"
#include "quant/attention_file.h"

namespace mezzotint {
namespace {

constexpr const char* kAlgorithm = "FP8_DYNAMIC";

const AttentionContract& contract() { return *served_attention(kAlgorithm).attention; }

Tensor zeros(int64_t steps) {
  Tensor out = Tensor::allocate(DType::kF64, {steps});
  std::fill_n(out.mutable_data<double>(), steps, 0.0);
  return out;
}

Tensor copied(const Tensor& values) {
  return Tensor::copy_of<double>({values.data<double>(), static_cast<size_t>(values.size())},
                                 values.shape());
}

}  // namespace

bool AttentionObserver::serves(const Attention& attention) {
  return attention.state() == nullptr && attention.shape().head_dim <= contract().max_head_dim;
}

AttentionObserver::AttentionObserver(Attention& attention, int64_t steps,
                                     const AttentionStatistics* earlier)
    : attention_(attention), seen_(earlier != nullptr) {
  statistics_.name = attention.name();
  statistics_.algorithm = kAlgorithm;
  statistics_.head_dim = attention.shape().head_dim;
  statistics_.noise = earlier == nullptr ? zeros(steps) : copied(earlier->noise);
  statistics_.signal = earlier == nullptr ? zeros(steps) : copied(earlier->signal);
  const AttentionParams params = contract().make(statistics_.head_dim);
  AttentionState state =
      *make_fp8_attention_state(params.q_rot, params.k_rot, /*p_scale=*/1.0f, active_isa());
  state.compared = [this](const Difference& outputs, int step) { see(outputs, step); };
  attention_.set_state(std::make_shared<const AttentionState>(std::move(state)));
}

AttentionObserver::~AttentionObserver() { attention_.set_state(nullptr); }

void AttentionObserver::see(const Difference& outputs, int step) {
  check_step(attention_.name(), step, statistics_.noise.size());
  if (!std::isfinite(outputs.noise) || !std::isfinite(outputs.signal)) {
    throw Error(ErrorCode::kInput, "the outputs of an attention are not finite",
                {.layer = attention_.name(), .expected = "finite values", .found = "inf or nan"});
  }
  seen_ = true;
  statistics_.noise.mutable_data<double>()[step] += outputs.noise;
  statistics_.signal.mutable_data<double>()[step] += outputs.signal;
}

}  // namespace mezzotint
