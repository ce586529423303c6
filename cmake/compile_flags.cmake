# The flags of every target of ours, as the interface library mz_flags.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

add_library(mz_flags INTERFACE)
target_compile_options(mz_flags INTERFACE -Wall -Wextra -Wpedantic -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # Both report std::string itself from -O2 on (GCC bugs 105329, 105651). clang and the sanitizers
  # look for the same faults.
  target_compile_options(mz_flags INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # clang blames std::stable_sort of libstdc++ 12 on its caller; g++ reports our own uses.
  target_compile_options(mz_flags INTERFACE -Wno-deprecated-declarations)
endif()
if(MZ_WERROR)
  target_compile_options(mz_flags INTERFACE -Werror)
endif()
if(MZ_DEBUG_CHECKS)
  target_compile_definitions(mz_flags INTERFACE _GLIBCXX_ASSERTIONS=1)
endif()
if(MZ_SANITIZE)
  target_compile_options(mz_flags INTERFACE -fsanitize=${MZ_SANITIZE} -fno-omit-frame-pointer
                                            -fno-sanitize-recover=all)
  # Global, because the static and the shared library, and whoever links them, need the run time.
  add_link_options(-fsanitize=${MZ_SANITIZE})
endif()
if(MZ_SANITIZE STREQUAL "thread")
  # src/base/thread_sanitizer.h: TBB's templates are half in these files and half in Debian's library.
  target_compile_definitions(mz_flags INTERFACE MZ_THREAD_SANITIZER)
  foreach(file IN ITEMS parallel_for thread_arena)
    set_source_files_properties(${PROJECT_SOURCE_DIR}/src/base/${file}.cc
                                PROPERTIES COMPILE_OPTIONS -fno-sanitize=thread)
  endforeach()
endif()
if(MZ_COVERAGE)
  target_compile_options(mz_flags INTERFACE --coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()
if(MZ_BUILD_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "mezzotint: MZ_BUILD_FUZZ needs clang (libFuzzer), got ${CMAKE_CXX_COMPILER_ID}")
  endif()
  target_compile_options(mz_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
