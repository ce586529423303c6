// How contracts with integer weights are written.
#include "quant/algorithms/contracts.h"
#include "solve/rtn.h"
#include "solve/upstream_weights.h"

namespace mezzotint {
namespace {

void quantize(const Tensor& weight, Element element, const AlgorithmParameters& how,
              const LayerDims& dims, LinearParams& params, const ExecContext& ctx) {
  if (how.compat == Compat::kUpstream) {
    const int64_t group = dims.groups == 0 ? 0 : dims.k / dims.groups;
    UpstreamInteger upstream = upstream_integer_weight(
        weight, {.element = element, .granularity = how.weights, .group = group}, ctx);
    params.codes = std::move(upstream.codes);
    params.weight_scale = std::move(upstream.scale);
    params.weight_offset = std::move(upstream.offset);
    return;
  }
  IntegerWeight rounded =
      round_to_nearest(weight, element, {.granularity = how.weights, .groups = dims.groups}, ctx);
  params.codes = std::move(rounded.codes);
  params.weight_scale = std::move(rounded.scale);
}

}  // namespace

void quantize_to_int8(const Tensor& weight, const AlgorithmParameters& how, const LayerDims& dims,
                      LinearParams& params, const ExecContext& ctx) {
  quantize(weight, Element::kInt8, how, dims, params, ctx);
}

void quantize_to_int4(const Tensor& weight, const AlgorithmParameters& how, const LayerDims& dims,
                      LinearParams& params, const ExecContext& ctx) {
  quantize(weight, Element::kInt4, how, dims, params, ctx);
}

}  // namespace mezzotint
