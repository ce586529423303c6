#include "bench/onednn/onednn_cases.h"

#include <omp.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "bench/peer_case.h"
#include "numerics/bf16.h"

namespace mezzotint::bench {
namespace {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;

struct Form {
  const char* path;  // of ours
  Type x, w, y;
  int64_t group = 0;  // of k that share a scale; 0: all of an output channel
};

constexpr Form kForms[] = {
    {"int8", Type::s8, Type::s8, Type::bf16},
    {"bf16", Type::bf16, Type::bf16, Type::bf16},
    {"f32", Type::f32, Type::f32, Type::f32},
#if DNNL_VERSION_MAJOR >= 3
    {"w8a16", Type::bf16, Type::s8, Type::bf16},
    {"w4a16_g64", Type::bf16, Type::s4, Type::bf16, 64},
    {"w4a16_g128", Type::bf16, Type::s4, Type::bf16, 128},
#endif
};

struct Problem {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul matmul;
  std::string implementation;  // "brg:avx512_core_vnni", "gemm:jit"
  std::unordered_map<int, memory> arguments;

  void run(int threads) {
    omp_set_num_threads(threads);
    matmul.execute(stream, arguments);
    stream.wait();
  }
};

// Numbers of [-0.94, 0.94], or codes. Every element of a weight in the library's own order is
// somebody's, and may be filled as it is.
void fill(const memory& target, Type type) {
  auto* bytes = static_cast<std::byte*>(target.get_data_handle());
  const size_t size = target.get_desc().get_size();
  const size_t step = type == Type::f32 ? 4 : type == Type::bf16 ? 2 : 1;
  for (size_t i = 0; i < size / step; ++i) {
    const int code = static_cast<int>(i % 61) - 30;
    const float value = static_cast<float>(code) / 32;
    const uint16_t half = bf16_from_float(value);
    const auto byte = static_cast<int8_t>(code);
    const void* from = step == 4   ? static_cast<const void*>(&value)
                       : step == 2 ? static_cast<const void*>(&half)
                                   : static_cast<const void*>(&byte);
    std::memcpy(bytes + i * step, from, step);
  }
}

#if DNNL_VERSION_MAJOR >= 3
dnnl::matmul::primitive_desc describe(const Problem& problem, const Form& form,
                                      const memory::desc (&of)[4], dnnl::primitive_attr& how) {
  constexpr int kPerColumn = 2, kPerGroup = 1 | 2;
  if (form.w == Type::s4) {
    how.set_scales(DNNL_ARG_WEIGHTS, kPerGroup, {form.group, 1}, Type::bf16);
  } else if (form.w == Type::s8) {
    how.set_scales_mask(DNNL_ARG_WEIGHTS, kPerColumn);
  }
  const bool codes_of_w_only = form.w != form.x;
  if (codes_of_w_only) how.set_fpmath_mode(dnnl::fpmath_mode::bf16, true);
  return {problem.engine, of[0], of[1], of[2], of[3], how};
}

void add_scales(Problem& problem, const Form& form, const LinearShape& shape) {
  if (form.w != Type::s8 && form.w != Type::s4) return;
  const int64_t groups = form.group == 0 ? 1 : shape.k / form.group;
  const Type type = form.w == Type::s4 ? Type::bf16 : Type::f32;
  const memory scales({{groups * shape.n}, type, Tag::a}, problem.engine);
  fill(scales, type);
  problem.arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS] = scales;
}
#else
dnnl::matmul::primitive_desc describe(const Problem& problem, const Form& form,
                                      const memory::desc (&of)[4], dnnl::primitive_attr& how) {
  constexpr int kPerColumn = 2;
  if (form.w == Type::s8) {
    const auto columns = static_cast<size_t>(of[3].dims()[1]);
    how.set_output_scales(kPerColumn, std::vector<float>(columns, 0.001f));
  }
  return {{of[0], of[1], of[2], of[3]}, how, problem.engine};
}

void add_scales(Problem&, const Form&, const LinearShape&) {}
#endif

std::shared_ptr<Problem> make_problem(const LinearShape& shape, const Form& form) {
  auto problem = std::make_shared<Problem>();
  const memory::desc of[4] = {{{shape.m, shape.k}, form.x, Tag::ab},
                              {{shape.k, shape.n}, form.w, Tag::any},
                              {{1, shape.n}, Type::f32, Tag::ab},
                              {{shape.m, shape.n}, form.y, Tag::ab}};
  dnnl::primitive_attr how;
  const dnnl::matmul::primitive_desc chosen = describe(*problem, form, of, how);
  problem->matmul = dnnl::matmul(chosen);
  problem->implementation = chosen.impl_info_str();
  problem->arguments = {{DNNL_ARG_SRC, memory(of[0], problem->engine)},
                        {DNNL_ARG_WEIGHTS, memory(chosen.weights_desc(), problem->engine)},
                        {DNNL_ARG_BIAS, memory(of[2], problem->engine)},
                        {DNNL_ARG_DST, memory(of[3], problem->engine)}};
  fill(problem->arguments.at(DNNL_ARG_SRC), form.x);
  fill(problem->arguments.at(DNNL_ARG_WEIGHTS), form.w);
  fill(problem->arguments.at(DNNL_ARG_BIAS), Type::f32);
  add_scales(*problem, form, shape);
  return problem;
}

bool is_reference(const Problem& problem) {
  return std::string_view(problem.implementation).starts_with("ref");
}

// Null where the library only has loops for reference, a thousand times slower, or nothing: without
// AVX-512 it takes no bf16, and integers it gives back as f32.
std::shared_ptr<Problem> problem_or_null(const LinearShape& shape, Form form) {
  try {
    std::shared_ptr<Problem> problem = make_problem(shape, form);
    if (is_reference(*problem) && form.x == Type::s8) {
      form.y = Type::f32;
      problem = make_problem(shape, form);
    }
    return is_reference(*problem) ? nullptr : problem;
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return nullptr;
  }
}

std::string kernel_name(const Problem& problem) {
  const dnnl_version_t& version = *dnnl_version();
  return fmt::format("oneDNN {}.{}.{} {}", version.major, version.minor, version.patch,
                     problem.implementation);
}

}  // namespace

std::vector<Case> onednn_cases(const LinearShape& shape, const CaseOptions& options) {
  std::vector<Case> cases;
  for (const Form& form : kForms) {
    const Path* path = compared_path(form.path, shape, options);
    if (path == nullptr || (form.group != 0 && shape.k % form.group != 0)) continue;
    const std::shared_ptr<Problem> problem = problem_or_null(shape, form);
    if (problem == nullptr) continue;
    for (const int threads : options.threads) {
      cases.push_back(peer_case("onednn", kernel_name(*problem), *path, shape, threads,
                                [problem, threads] { problem->run(threads); }));
    }
  }
  return cases;
}

}  // namespace mezzotint::bench
