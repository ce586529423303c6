// FP8 attention files: a rotation of q and one of k. Scales of q, k and v are measured.
#include "quant/algorithms/contracts.h"
#include "solve/hadamard.h"

namespace mezzotint {
namespace {

constexpr ParamSpec rotation_param(std::string_view suffix, Tensor AttentionParams::* field,
                                   std::string_view meaning) {
  return {.suffix = suffix,
          .dtypes = kFactorDtypes,
          .shapes = "E,E",
          .coding = Coding::kStored,
          .attention_field = field,
          .canonical = "E,E",
          .prefix = PrefixRule::kLayer,
          .label = LabelRule::kFloat,
          .values = ValueRule::kFinite,
          .meaning = meaning};
}

constexpr std::array kParams = {
    rotation_param("q_rot", &AttentionParams::q_rot, "q becomes q q_rot, head by head"),
    rotation_param("k_rot", &AttentionParams::k_rot,
                   "k becomes k k_rot; q_rot k_rot^T is the identity"),
};

AttentionParams make(int64_t head_dim) {
  const Tensor rotation = make_rotation(head_dim, kRotationSeed);
  return {.algorithm = {}, .q_rot = rotation, .k_rot = rotation};
}

}  // namespace

constinit const AttentionContract kFp8AttentionContract = {
    .name = "fp8_attention", .params = kParams, .max_head_dim = 128, .make = make};

}  // namespace mezzotint
