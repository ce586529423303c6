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
include(${CMAKE_CURRENT_LIST_DIR}/bench_peers.cmake)
if(MZ_BUILD_TESTS)
  # Every path and attention once, on a few rows: that the program runs, not how fast.
  add_test(NAME bench.RunsEveryPath
    COMMAND mezzotint_shape_bench --shapes sd3 --rows 4 --set context_embedder --set joint_self --passes 1 --threads 1
            --json ${CMAKE_CURRENT_BINARY_DIR}/bench_test.json)
  set_tests_properties(bench.RunsEveryPath PROPERTIES LABELS slow TIMEOUT 600)
endif()

# One linear on each of two thread libraries, for bench/threads/alternate.py. Built on demand.
if(OpenMP_CXX_FOUND)
  foreach(way IN ITEMS onetbb openmp)
    add_library(mezzotint_threads_${way} MODULE EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/threads/linear_call.cc)
    target_link_libraries(mezzotint_threads_${way} PRIVATE mz_flags mezzotint_nn)
  endforeach()
  target_sources(mezzotint_threads_openmp PRIVATE ${PROJECT_SOURCE_DIR}/bench/threads/parallel_for_openmp.cc)
  target_link_libraries(mezzotint_threads_openmp PRIVATE OpenMP::OpenMP_CXX)
endif()
