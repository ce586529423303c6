// mezzotint._core. Here: one Linear on buffers that Python owns. Thin: no numerics.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/env.h"
#include "bindings.h"
#include "layer.h"
#include "mezzotint/context.h"
#include "mezzotint/error.h"
#include "mezzotint/linear.h"
#include "mezzotint/version.h"
#include "nn/linear_state.h"
#include "torch_threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

using Packed = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using PackedOut = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatsView = nb::ndarray<const float, nb::numpy, nb::ndim<1>>;
using Rows = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using RowsOut = nb::ndarray<nb::ndim<2>, nb::device::cpu>;

// A Buffer on bytes of Python's: the array lives as long as anybody uses them.
template <typename Array>
Buffer borrow(const Array& array) {
  std::shared_ptr<Array> owner(new Array(array), [](Array* held) {
    const nb::gil_scoped_acquire gil;
    delete held;
  });
  return Buffer::borrow_const(array.data(), static_cast<int64_t>(array.nbytes()), owner);
}

Tensor borrow_floats(const std::optional<Floats>& array) {
  if (!array) return {};
  return Tensor(DType::kF32, {static_cast<int64_t>(array->size())}, borrow(*array));
}

// numpy has no bfloat16: its bits come as uint16. linear.py lets nothing else through.
DType dtype_of_array(nb::dlpack::dtype type) {
  if (type == nb::dtype<float>()) return DType::kF32;
  return type == nb::dtype<uint16_t>() ? DType::kBF16 : DType::kF16;
}

class PyLinear {
 public:
  explicit PyLinear(Linear linear) : linear_(std::move(linear)) {}

  static PyLinear load(const std::string& folder, const std::string& name) {
    const nb::gil_scoped_release no_gil;
    return PyLinear(load_layer(folder, name));
  }

  static PyLinear from_packed(const Packed& packed, const std::optional<Floats>& weight_scale,
                              const std::optional<Floats>& bias,
                              const std::optional<Floats>& mul_scale,
                              const std::optional<Floats>& weight_offset,
                              const std::string& algorithm, const std::string& name) {
    return PyLinear(layer_of_blob(name, algorithm, borrow(packed),
                                  {.weight_scale = borrow_floats(weight_scale),
                                   .weight_offset = borrow_floats(weight_offset),
                                   .mul_scale = borrow_floats(mul_scale),
                                   .bias = borrow_floats(bias)}));
  }

  // Copies the packed weight into `packed` and borrows it from there on.
  void move_packed(const PackedOut& packed) {
    const Buffer& blob = linear_.state()->blob;
    if (static_cast<int64_t>(packed.nbytes()) != blob.size()) {
      throw Error(ErrorCode::kUsage, "the buffer for the packed weight has the wrong size",
                  {.layer = linear_.name(),
                   .expected = std::to_string(blob.size()),
                   .found = std::to_string(packed.nbytes())});
    }
    std::memcpy(packed.data(), blob.data(), packed.nbytes());
    LinearState state = *linear_.state();
    state.blob = borrow(packed);
    linear_.set_state(std::make_shared<const LinearState>(std::move(state)));
  }

  void run(const Rows& x, const RowsOut& y, const ExecContext& context) const {
    const nb::gil_scoped_release no_gil;
    linear_.run({x.data(), dtype_of_array(x.dtype()), rows(x), cols(x), x.stride(0)},
                {y.data(), dtype_of_array(y.dtype()), rows(y), cols(y), y.stride(0)}, context);
  }

  const Linear& linear() const { return linear_; }

 private:
  static int64_t rows(const auto& matrix) { return static_cast<int64_t>(matrix.shape(0)); }
  static int64_t cols(const auto& matrix) { return static_cast<int64_t>(matrix.shape(1)); }

  Linear linear_;
};

// A view on floats of `self`, which it keeps alive.
template <Tensor LinearState::* kMember>
std::optional<FloatsView> floats_of(nb::handle self) {
  const Tensor& tensor = (*nb::cast<PyLinear&>(self).linear().state()).*kMember;
  if (tensor.empty()) return std::nullopt;
  return FloatsView(tensor.data<float>(), {static_cast<size_t>(tensor.size())}, self);
}

// mezzotint.Error with the text of what() and the number of the code (mezzotint/error.h).
void register_error(nb::module_& module) {
  static nb::handle type = nb::exception<Error>(module, "Error", PyExc_RuntimeError).release();
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const Error& error) {
      nb::object value = type(error.what());
      value.attr("code") = static_cast<int>(error.code());
      PyErr_SetObject(type.ptr(), value.ptr());
    }
  });
}

}  // namespace

NB_MODULE(_core, module) {
  register_error(module);
  module.attr("__version__") = version();

  nb::class_<ExecContext>(module, "Context", "The threads and scratch memory that calls use.")
      .def(
          "__init__",
          [](ExecContext* self, int threads, bool own_threads) {
            new (self) ExecContext({.threads = threads});
            if (!own_threads) self->arena().bring(torch_threads());
          },
          "threads"_a = 0, nb::kw_only(), "own_threads"_a = false,
          "own_threads: oneTBB's also where torch is loaded, whose own are used otherwise.")
      .def_prop_ro("threads", &ExecContext::threads);

  module.def("env_threads", &env_threads);

  nb::class_<PyLinear>(module, "Linear")
      .def_static("load", &PyLinear::load, "folder"_a, "name"_a)
      .def(nb::new_(&PyLinear::from_packed), "packed"_a.noconvert(), "weight_scale"_a.none(),
           "bias"_a.none(), "mul_scale"_a.none(), "weight_offset"_a.none(), "algorithm"_a, "name"_a)
      .def("move_packed", &PyLinear::move_packed, "packed"_a.noconvert())
      .def("run", &PyLinear::run, "x"_a.noconvert(), "y"_a.noconvert(), "context"_a)
      .def("kernel",
           [](const PyLinear& self, int64_t m) { return std::string(self.linear().kernel(m)); })
      .def_prop_ro("name", [](const PyLinear& self) { return self.linear().name(); })
      .def_prop_ro("algorithm",
                   [](const PyLinear& self) { return std::string(self.linear().algorithm()); })
      .def_prop_ro("in_features", [](const PyLinear& self) { return self.linear().in_features(); })
      .def_prop_ro("out_features",
                   [](const PyLinear& self) { return self.linear().out_features(); })
      .def_prop_ro("packed_bytes",
                   [](const PyLinear& self) { return self.linear().state()->blob.size(); })
      .def_prop_ro("weight_scale", &floats_of<&LinearState::weight_scale>)
      .def_prop_ro("weight_offset", &floats_of<&LinearState::weight_offset>)
      .def_prop_ro("bias", &floats_of<&LinearState::bias>)
      .def_prop_ro("mul_scale", &floats_of<&LinearState::mul_scale>);

  bind_presets(module);
  bind_module_layers(module);
  bind_model_quantizer(module);
  bind_collector(module);
  bind_folder_writer(module);
  bind_weights(module);
  bind_attention(module);
  bind_token_ops(module);
  bind_fp8_blocks(module);
}

}  // namespace mezzotint
