# One test program per layer, from the x_test.cc files beside the code. A suite or test whose name
# starts with Slow carries the ctest label "slow"; every test carries its layer's name as a label.

find_package(GTest REQUIRED)
include(GoogleTest)

# TMPDIR of the test presets: two trees may test at the same time.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/tmp)

# Ends a test that hangs. No limit of speed: the slowest takes a minute on a quiet machine.
set(MZ_TEST_TIMEOUT_S 1800)

function(mz_discover_tests target label)
  set(common DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120
             WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
  gtest_discover_tests(${target} ${common} TEST_FILTER "-Slow*:*.Slow*:*/Slow*"
    PROPERTIES LABELS ${label} TIMEOUT ${MZ_TEST_TIMEOUT_S})
  # One label with both words: CMake 3.25 and 4 quote a list of labels differently here.
  gtest_discover_tests(${target} ${common} TEST_FILTER "Slow*:*.Slow*:*/Slow*" TEST_LIST ${target}_slow
    PROPERTIES LABELS ${label}-slow TIMEOUT ${MZ_TEST_TIMEOUT_S})
endfunction()

function(mz_add_test_program name library)
  add_executable(${name}_test ${ARGN})
  target_link_libraries(${name}_test PRIVATE mz_flags ${library} GTest::gtest_main)
  target_compile_definitions(${name}_test PRIVATE MZ_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # A fifth less to compile than with -O2, and no test program is slower for it: the time is in the library.
  target_compile_options(${name}_test PRIVATE $<$<CONFIG:Release>:-O1>)
  mz_precompile(${name}_test <gtest/gtest.h> <algorithm> <cmath> <filesystem> <random> <string> <vector>)
  mz_discover_tests(${name}_test ${name})
endfunction()

foreach(layer IN LISTS MZ_LAYERS)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${layer}/*_test.cc)
  if(sources)
    mz_add_test_program(${layer} mezzotint_${layer} ${sources})
  endif()
endforeach()

# The numbered cases of tests/conformance/README.md, over the public API and real files.
file(GLOB conformance_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/conformance/*_test.cc)
mz_add_test_program(conformance mezzotint_nn ${conformance_tests})
target_include_directories(conformance_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)

# An oracle of the number formats, of its headers only. Without it cuda_oracle_test.cc skips; what
# testdata/numerics holds is tested everywhere.
find_path(MZ_CUDA_INCLUDE_DIR cuda_fp4.h PATHS $ENV{CUDA_HOME}/include /usr/local/cuda/include)
mark_as_advanced(MZ_CUDA_INCLUDE_DIR)
if(MZ_CUDA_INCLUDE_DIR)
  target_include_directories(numerics_test SYSTEM PRIVATE ${MZ_CUDA_INCLUDE_DIR})
endif()

file(GLOB_RECURSE mz_cli_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cli/*_test.cc)
if(TARGET mezzotint_cli AND mz_cli_tests)
  mz_add_test_program(cli mezzotint_cli_core ${mz_cli_tests})
  target_compile_definitions(cli_test PRIVATE MZ_CLI_PATH="$<TARGET_FILE:mezzotint_cli>")
  add_dependencies(cli_test mezzotint_cli)
endif()

add_subdirectory(tests)
