# Folder = flags = namespace: src/kernels/cpu/<isa>/*.cc gets the flags of its folder from this
# table, and no other file gets any -m flag. A new ISA is one folder and one line here.

set(MZ_ISA_FLAGS_portable    "")
set(MZ_ISA_FLAGS_avx2        -mavx2 -mfma -mf16c)
set(MZ_ISA_FLAGS_avx512      ${MZ_ISA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
set(MZ_ISA_FLAGS_avx512_vnni ${MZ_ISA_FLAGS_avx512} -mavx512vnni)
set(MZ_ISA_FLAGS_avx512_bf16 ${MZ_ISA_FLAGS_avx512_vnni} -mavx512bf16)

# Intrinsics without optimization are useless even for tests, hence -O2 at least in every preset.
# g++ 12's -ftree-pre makes accumulators spill (docs/decisions/0001-build-system.md).
set(MZ_KERNEL_OPTIMIZATION -O2)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(MZ_KERNEL_OPTIMIZATION -O3)
endif()
set(MZ_ISA_COMMON_FLAGS ${MZ_KERNEL_OPTIMIZATION} -fno-exceptions)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND MZ_ISA_COMMON_FLAGS -fno-tree-pre)
  # The address sanitizer's heap frames are 32-byte aligned in g++ 12 (PR 110027): too little for zmm.
  if(MZ_SANITIZE MATCHES "address")
    list(APPEND MZ_ISA_COMMON_FLAGS --param=asan-use-after-return=0)
  endif()
endif()
# Checks of every pointer that is read through, of which a kernel has thousands: avx2/panel_linear.cc
# takes 33 instead of 87 s with -O2 without them. The address sanitizer looks at the same accesses.
if(MZ_SANITIZE MATCHES "undefined")
  list(APPEND MZ_ISA_COMMON_FLAGS -fno-sanitize=null,alignment,object-size,pointer-overflow)
endif()

# mz_isa_of(<path> <var>): the ISA folder a file stands in, or empty.
function(mz_isa_of path var)
  set(isa "")
  if(path MATCHES "/src/kernels/cpu/([^/]+)/")
    set(isa ${CMAKE_MATCH_1})
    if(NOT DEFINED MZ_ISA_FLAGS_${isa})
      message(FATAL_ERROR "mezzotint: ${path}: expected a folder named in cmake/isa.cmake, got '${isa}'")
    endif()
  endif()
  set(${var} "${isa}" PARENT_SCOPE)
endfunction()

function(mz_apply_isa_flags)
  foreach(source IN LISTS ARGN)
    mz_isa_of(${source} isa)
    if(isa)
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${MZ_ISA_COMMON_FLAGS};${MZ_ISA_FLAGS_${isa}}")
    endif()
  endforeach()
endfunction()

# Fails the build of `library` when an ISA object of it defines a weak symbol or a hot loop touches
# the stack. Instrumented builds add both by design and are left out.
function(mz_check_isa_objects library)
  get_target_property(type ${library} TYPE)
  if(MZ_SANITIZE OR MZ_COVERAGE OR MZ_BUILD_FUZZ OR NOT type STREQUAL "STATIC_LIBRARY")
    return()
  endif()
  set(list ${PROJECT_BINARY_DIR}/isa_objects.txt)
  file(GENERATE OUTPUT ${list} CONTENT "$<JOIN:$<TARGET_OBJECTS:${library}>,\n>\n")
  set(hot_loops ${PROJECT_SOURCE_DIR}/tools/hot_loops.txt)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU" OR CMAKE_BUILD_TYPE STREQUAL "Debug")
    set(hot_loops /dev/null)
  endif()
  add_custom_command(TARGET ${library} POST_BUILD VERBATIM
    COMMAND ${PROJECT_SOURCE_DIR}/tools/check_isa_objects.sh ${list} ${hot_loops}
    COMMENT "Checking the ISA objects")
endfunction()
