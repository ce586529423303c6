// Splits one call of an op into tiles and runs them on the threads of the context.
#pragma once

#include "kernels/ops.h"
#include "kernels/registry.h"
#include "mezzotint/context.h"

namespace mezzotint {

// `call` describes the whole matrix; the driver fills m/n ranges and scratch of each tile.
void run_linear(const LinearKernel& kernel, const LinearTile& call, const ExecContext& ctx);
void run_quantize_rows(const QuantizeRowsKernel& kernel, const QuantizeRowsTile& call, int64_t m,
                       const ExecContext& ctx);
void run_quantize_mx(const QuantizeMxKernel& kernel, const QuantizeMxTile& call, int64_t m,
                     const ExecContext& ctx);

}  // namespace mezzotint
