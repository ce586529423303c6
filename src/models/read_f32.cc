#include "models/read_f32.h"

#include "mezzotint/error.h"
#include "solve/widen.h"

namespace mezzotint {

Tensor read_f32(const WeightStore& store, const std::string& name) {
  const TensorInfo& info = store.info(name);
  if (is_floating(info.dtype)) return widened(store.read(name));
  throw Error(ErrorCode::kUnsupported, "cannot read a tensor as floats",
              {.tensor = name,
               .file = store.files().at(static_cast<size_t>(info.file)).string(),
               .expected = "a floating dtype",
               .found = std::string(dtype_name(info.dtype))});
}

}  // namespace mezzotint
