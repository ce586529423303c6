// Between the tensors of a file and the fields of LinearParams: one function each way.
#pragma once

#include "quant/param_spec.h"

namespace mezzotint {

// The field of `spec` from a tensor that check_params let through. Errors: kInput for codes that
// cannot be right (an int4 value above 7, an e4m3 NaN, ...), naming the tensor.
Tensor decode_param(const CheckedTensor& checked, const LayerDims& dims, const LayerFile& file);

// The tensor of a file from the field: `tensor` is allocated in the dtype and shape to write. An
// absent field (an offset of a symmetric layer) is written as zeros.
void encode_param(const ParamSpec& spec, const Tensor& field, const LayerDims& dims,
                  const Tensor& tensor);

// The same as a new tensor, which shares the field's bytes where the file holds them as they are.
Tensor encoded_param(const ParamSpec& spec, const Tensor& field, const LayerDims& dims, DType dtype,
                     const Shape& shape);

// Dtype and shape in which a new file holds the parameter. int4 and e2m1 codes are packed, except
// that an odd K, of which packing would lose the parity, takes one byte per code, as upstream gives
// every int4 code.
struct WrittenForm {
  DType dtype;
  Shape shape;
};
WrittenForm written_form(const ParamSpec& spec, const LayerDims& dims, Compat compat);

}  // namespace mezzotint
