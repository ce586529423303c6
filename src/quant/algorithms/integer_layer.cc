// How contracts with integer weights are written.
#include "quant/algorithms/contracts.h"
#include "solve/rtn.h"

namespace mezzotint {
namespace {

void quantize(const Tensor& weight, Element element, const AlgorithmParameters& how,
              const LayerDims& dims, LinearParams& params, const ExecContext& ctx) {
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
