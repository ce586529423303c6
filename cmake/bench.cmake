# Benchmarks: built with the tree, so that they do not rot
find_package(benchmark CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)

# All x_bench.cc files beside the code in one program: ./x bench micro
file(GLOB_RECURSE mz_bench_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*_bench.cc)
if(mz_bench_sources)
  add_executable(mezzotint_bench EXCLUDE_FROM_ALL ${mz_bench_sources})
  target_link_libraries(mezzotint_bench PRIVATE mz_flags mezzotint_core benchmark::benchmark_main)
  target_compile_definitions(mezzotint_bench PRIVATE MZ_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
endif()

# Real shapes through every path: ./x bench
file(GLOB mz_shape_bench_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/*.cc)
add_executable(mezzotint_shape_bench ${mz_shape_bench_sources})
target_include_directories(mezzotint_shape_bench PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(mezzotint_shape_bench PRIVATE mz_flags mezzotint_core CLI11::CLI11)
target_compile_definitions(mezzotint_shape_bench PRIVATE MZ_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
