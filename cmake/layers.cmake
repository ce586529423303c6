# mz_add_layer(<layer> <layers it may use>...): src/<layer> as the library mezzotint_<layer>. A layer
# links only what stands left of it, so a test of a lower layer cannot pull in a higher one.

set(MZ_LAYERS)           # in build order
set(MZ_COMPILED_LAYERS)  # those that have sources

# mz_layer_sources(<layer> <var>): the layer's sources without tests and benchmarks.
function(mz_layer_sources layer var)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${layer}/*.cc)
  list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.cc$")
  set(${var} ${sources} PARENT_SCOPE)
endfunction()

macro(mz_add_layer layer)
  list(APPEND MZ_LAYERS ${layer})
  mz_layer_sources(${layer} mz_sources)
  if(mz_sources)
    list(APPEND MZ_COMPILED_LAYERS ${layer})
    mz_apply_isa_flags(${mz_sources})
    add_library(mezzotint_${layer} STATIC ${mz_sources})
    target_include_directories(mezzotint_${layer} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(mezzotint_${layer} PRIVATE mz_flags PUBLIC mz_dependencies)
    set(mz_scope PUBLIC)
  else()  # headers only
    add_library(mezzotint_${layer} INTERFACE)
    target_include_directories(mezzotint_${layer} INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(mezzotint_${layer} INTERFACE mz_dependencies)
    set(mz_scope INTERFACE)
  endif()
  foreach(mz_used ${ARGN})
    target_link_libraries(mezzotint_${layer} ${mz_scope} mezzotint_${mz_used})
  endforeach()
endmacro()
