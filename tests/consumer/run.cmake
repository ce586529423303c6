# cmake -D WAY= -D BUILD_DIR= -D SOURCE_DIR= -D CXX= -D BUILD_TYPE= -D LIBDIR= -D WORK_DIR= -P run.cmake
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
set(prefix ${WORK_DIR}/prefix)
set(configure ${CMAKE_COMMAND} -G Ninja -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK_DIR}/build -D WAY=${WAY}
              -D CMAKE_CXX_COMPILER=${CXX} -D CMAKE_BUILD_TYPE=${BUILD_TYPE})

if(WAY STREQUAL "add_subdirectory")
  # Configures only: compiling would be the whole library once more.
  run(${configure} -D SOURCE_DIR=${SOURCE_DIR})
  return()
endif()

run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${prefix})
foreach(file IN ITEMS bin/mezzotint include/mezzotint/version.h ${LIBDIR}/libmezzotint.so
                      share/doc/mezzotint/LICENSE)
  if(NOT EXISTS ${prefix}/${file})
    message(FATAL_ERROR "expected ${file} in the install tree, got none")
  endif()
endforeach()
file(STRINGS ${SOURCE_DIR}/include/mezzotint/version.h version REGEX "define MZ_VERSION_")
string(REGEX MATCHALL "[0-9]+" version "${version}")
list(JOIN version "." version)
set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
set(ENV{LD_LIBRARY_PATH} ${prefix}/${LIBDIR}:$ENV{LD_LIBRARY_PATH})
run(${configure} -D CMAKE_PREFIX_PATH=${prefix} -D WANTED_VERSION=${version})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)
run(${prefix}/bin/mezzotint --version)

# The examples of the README, the way the README builds them.
set(examples ${SOURCE_DIR}/examples)
if(WAY STREQUAL "find_package")
  run(${CMAKE_COMMAND} -G Ninja -S ${examples} -B ${WORK_DIR}/examples -D CMAKE_CXX_COMPILER=${CXX}
      -D CMAKE_BUILD_TYPE=${BUILD_TYPE} -D CMAKE_PREFIX_PATH=${prefix})
  run(${CMAKE_COMMAND} --build ${WORK_DIR}/examples)
  run(${WORK_DIR}/examples/quantize_file ${SOURCE_DIR}/demo ${WORK_DIR}/quantized w8a8_dynamic proj_out=float)
  run(${WORK_DIR}/examples/load_and_run_linear ${SOURCE_DIR}/demo ${WORK_DIR}/quantized
      transformer_blocks.0.attn.to_q)
else()
  run(sh -c "${CXX} -O2 ${examples}/quantize_file.cc $(pkg-config --cflags --libs mezzotint) -o ${WORK_DIR}/quantize_file")
endif()
