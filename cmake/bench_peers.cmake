# Other libraries for ./x bench --peers, each optional: of MEZZOTINT_PEERS/onednn (version 3) and
# MEZZOTINT_PEERS/aocl-dlp {include,lib}, as their `cmake --install` leaves them, and else of the system
# (Debian's libdnnl-dev, version 2, whose CMake package insists on OpenCL).
set(MEZZOTINT_PEERS "$ENV{MEZZOTINT_PEERS}" CACHE PATH "Folder of builds of other libraries, for ./x bench --peers")
find_package(OpenMP QUIET COMPONENTS CXX)

# mz_bench_peer(<name> <include dir> <library>): bench/<name>/<name>_cases.cc where both were found,
# no cases elsewhere.
function(mz_bench_peer name include library)
  set(folder ${PROJECT_SOURCE_DIR}/bench/${name})
  if(NOT (include AND library AND OpenMP_CXX_FOUND))
    target_sources(mezzotint_shape_bench PRIVATE ${folder}/absent.cc)
    return()
  endif()
  target_sources(mezzotint_shape_bench PRIVATE ${folder}/${name}_cases.cc)
  target_include_directories(mezzotint_shape_bench SYSTEM PRIVATE ${include})
  target_link_libraries(mezzotint_shape_bench PRIVATE ${library} OpenMP::OpenMP_CXX)
endfunction()

find_path(MZ_DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp HINTS ${MEZZOTINT_PEERS}/onednn/include)
find_library(MZ_DNNL_LIBRARY NAMES libdnnl.so.3 libdnnl.so.2 dnnl HINTS ${MEZZOTINT_PEERS}/onednn/lib)
find_path(MZ_AOCL_DLP_INCLUDE_DIR aocl_dlp.h HINTS ${MEZZOTINT_PEERS}/aocl-dlp/include)
find_library(MZ_AOCL_DLP_LIBRARY NAMES aocl-dlp HINTS ${MEZZOTINT_PEERS}/aocl-dlp/lib)
mark_as_advanced(MZ_DNNL_INCLUDE_DIR MZ_DNNL_LIBRARY MZ_AOCL_DLP_INCLUDE_DIR MZ_AOCL_DLP_LIBRARY)
mz_bench_peer(onednn "${MZ_DNNL_INCLUDE_DIR}" "${MZ_DNNL_LIBRARY}")
mz_bench_peer(aocl_dlp "${MZ_AOCL_DLP_INCLUDE_DIR}" "${MZ_AOCL_DLP_LIBRARY}")
