#include "bench/onednn/onednn_cases.h"

#include <omp.h>

#include <memory>
#include <string>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

namespace mezzotint::bench {
namespace {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;

struct Form {
  const char* path;  // of ours
  Type x, w, y;
};

constexpr Form kForms[] = {
    {"int8", Type::s8, Type::s8, Type::bf16},
    {"bf16", Type::bf16, Type::bf16, Type::bf16},
    {"f32", Type::f32, Type::f32, Type::f32},
};

struct Problem {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul matmul;
  std::unordered_map<int, memory> arguments;

  void run(int threads) {
    omp_set_num_threads(threads);
    matmul.execute(stream, arguments);
    stream.wait();
  }
};

// Codes or floats that are neither all zero nor denormal.
void fill(const memory& target) {
  auto* bytes = static_cast<uint8_t*>(target.get_data_handle());
  const size_t count = target.get_desc().get_size();
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i % 61 + (i % 4 == 3 ? 2 : 0));
}

std::shared_ptr<Problem> make_problem(const LinearShape& shape, const Form& form) {
  auto problem = std::make_shared<Problem>();
  const memory::desc x({shape.m, shape.k}, form.x, Tag::ab);
  const memory::desc w({shape.k, shape.n}, form.w, Tag::any);
  const memory::desc bias({1, shape.n}, Type::f32, Tag::ab);
  const memory::desc y({shape.m, shape.n}, form.y, Tag::ab);
  dnnl::primitive_attr how;
  if (form.x == Type::s8) {
    constexpr int kPerColumn = 2;
    how.set_output_scales(kPerColumn, std::vector<float>(static_cast<size_t>(shape.n), 0.001f));
  }
  const dnnl::matmul::primitive_desc chosen({x, w, bias, y}, how, problem->engine);
  problem->matmul = dnnl::matmul(chosen);
  problem->arguments = {{DNNL_ARG_SRC, memory(x, problem->engine)},
                        {DNNL_ARG_WEIGHTS, memory(chosen.weights_desc(), problem->engine)},
                        {DNNL_ARG_BIAS, memory(bias, problem->engine)},
                        {DNNL_ARG_DST, memory(y, problem->engine)}};
  // Every byte of a reordered weight is somebody's: it may be filled as it is.
  for (const int argument : {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS}) {
    fill(problem->arguments.at(argument));
  }
  return problem;
}

const Path* wanted_path(const Form& form, const CaseOptions& options) {
  for (const Path& path : paths()) {
    if (path.name == form.path && options.wants(path, Op::kLinear)) return &path;
  }
  return nullptr;
}

}  // namespace

std::vector<Case> onednn_cases(const LinearShape& shape, const CaseOptions& options) {
  std::vector<Case> cases;
  for (const Form& form : kForms) {
    const Path* path = wanted_path(form, options);
    if (path == nullptr || shape.m == 1)
      continue;  // one row: ours walks cold weights, these are hot
    const std::shared_ptr<Problem> problem = make_problem(shape, form);
    for (const int threads : options.threads) {
      cases.push_back({.engine = "onednn",
                       .set = shape.name,
                       .path = "onednn." + std::string(form.path),
                       .kernel = "oneDNN",
                       .m = shape.m,
                       .n = shape.n,
                       .k = shape.k,
                       .threads = threads,
                       .isa = active_isa(),
                       .peak = path->peak,
                       .operations = 2.0 * static_cast<double>(shape.m * shape.n * shape.k),
                       .call = [problem, threads] { problem->run(threads); }});
    }
  }
  return cases;
}

}  // namespace mezzotint::bench
