# oneDNN for ./x bench --peers, optional: version 3 in MEZZOTINT_PEERS/onednn/{include,lib}, else Debian's
# version 2 (libdnnl-dev, whose CMake package insists on OpenCL).
set(MEZZOTINT_PEERS "$ENV{MEZZOTINT_PEERS}" CACHE PATH "Folder of builds of other libraries, for ./x bench --peers")
find_path(MZ_DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp HINTS ${MEZZOTINT_PEERS}/onednn/include)
find_library(MZ_DNNL_LIBRARY NAMES libdnnl.so.3 libdnnl.so.2 dnnl HINTS ${MEZZOTINT_PEERS}/onednn/lib)
mark_as_advanced(MZ_DNNL_INCLUDE_DIR MZ_DNNL_LIBRARY)
find_package(OpenMP QUIET COMPONENTS CXX)
if(MZ_DNNL_INCLUDE_DIR AND MZ_DNNL_LIBRARY AND OpenMP_CXX_FOUND)
  target_sources(mezzotint_shape_bench PRIVATE ${PROJECT_SOURCE_DIR}/bench/onednn/onednn_cases.cc)
  target_include_directories(mezzotint_shape_bench SYSTEM PRIVATE ${MZ_DNNL_INCLUDE_DIR})
  target_link_libraries(mezzotint_shape_bench PRIVATE ${MZ_DNNL_LIBRARY} OpenMP::OpenMP_CXX)
else()
  target_sources(mezzotint_shape_bench PRIVATE ${PROJECT_SOURCE_DIR}/bench/onednn/absent.cc)
endif()
