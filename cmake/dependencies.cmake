# Everything third-party, as one interface library. Packages: tools/packages.txt, group "build".

find_package(Threads REQUIRED)
find_package(TBB CONFIG REQUIRED)
find_package(fmt CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
if(MZ_STATIC_DEPENDENCIES)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
  find_package(PNG REQUIRED)
  find_library(MZ_YAML_CPP yaml-cpp REQUIRED NO_CACHE)
  unset(CMAKE_FIND_LIBRARY_SUFFIXES)
  add_library(mz_fmt STATIC ${CMAKE_CURRENT_LIST_DIR}/fmt_library.cc)
  target_compile_features(mz_fmt PRIVATE cxx_std_20)
  set_target_properties(mz_fmt PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
  # As of fmt::fmt: the same objects as without this option, for ccache.
  target_compile_definitions(mz_fmt INTERFACE FMT_SHARED)
  set(MZ_FMT mz_fmt)
else()
  find_package(PNG REQUIRED)
  find_package(yaml-cpp CONFIG REQUIRED)
  set(MZ_YAML_CPP yaml-cpp)
  set(MZ_FMT fmt::fmt)
endif()
find_package(Eigen3 CONFIG REQUIRED)

# OpenBLAS without threads of its own: we call it inside our tasks. Static, so that no other
# flavour that the alternatives system has chosen can take its place at run time.
if(NOT CMAKE_LIBRARY_ARCHITECTURE)
  set(CMAKE_LIBRARY_ARCHITECTURE x86_64-linux-gnu)
endif()
find_library(MZ_OPENBLAS_LIBRARY NAMES libopenblas.a
             PATH_SUFFIXES openblas-serial ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial NO_CACHE)
find_path(MZ_OPENBLAS_INCLUDE_DIR NAMES cblas.h NO_CACHE
          PATH_SUFFIXES openblas-serial ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial)
if(NOT MZ_OPENBLAS_LIBRARY MATCHES "openblas-serial" OR NOT MZ_OPENBLAS_INCLUDE_DIR)
  message(FATAL_ERROR "mezzotint: expected the serial static OpenBLAS "
    "(openblas-serial/libopenblas.a and cblas.h), got '${MZ_OPENBLAS_LIBRARY}', "
    "'${MZ_OPENBLAS_INCLUDE_DIR}'. On Debian: apt-get install libopenblas-serial-dev")
endif()

add_library(mz_dependencies INTERFACE)
target_include_directories(mz_dependencies SYSTEM INTERFACE ${MZ_OPENBLAS_INCLUDE_DIR})
target_link_libraries(mz_dependencies INTERFACE
  TBB::tbb ${MZ_FMT} nlohmann_json::nlohmann_json ${MZ_YAML_CPP} PNG::PNG Eigen3::Eigen
  ${MZ_OPENBLAS_LIBRARY} m Threads::Threads)

# Debian's serial OpenBLAS hands one scratch buffer to two threads now and then: its allocator goes
# through our lock (src/kernels/blas/memory_lock.cc, pulled from its archive by --undefined).
target_link_options(mz_dependencies INTERFACE
  LINKER:--wrap=blas_memory_alloc,--wrap=blas_memory_free,--undefined=__wrap_blas_memory_alloc)
