# All x_bench.cc files in one program, built on demand: ./x bench
find_package(benchmark CONFIG REQUIRED)

file(GLOB_RECURSE mz_bench_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*_bench.cc
                                                     ${PROJECT_SOURCE_DIR}/bench/*_bench.cc)
if(mz_bench_sources)
  add_executable(mezzotint_bench EXCLUDE_FROM_ALL ${mz_bench_sources})
  target_link_libraries(mezzotint_bench PRIVATE mz_flags mezzotint_core benchmark::benchmark_main)
  target_compile_definitions(mezzotint_bench PRIVATE MZ_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
endif()
