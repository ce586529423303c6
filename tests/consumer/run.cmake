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
run(${configure} -D CMAKE_PREFIX_PATH=${prefix} -D WANTED_VERSION=${version})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${prefix}/${LIBDIR} ${WORK_DIR}/build/consumer)
run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${prefix}/${LIBDIR} ${prefix}/bin/mezzotint --version)
