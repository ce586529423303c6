# The command line tool: everything of src/cli but main.cc is a library, so that cli_test sees it.

find_package(CLI11 CONFIG REQUIRED)

mz_layer_sources(cli mz_cli_sources)
set(mz_cli_main ${PROJECT_SOURCE_DIR}/src/cli/main.cc)
list(REMOVE_ITEM mz_cli_sources ${mz_cli_main})

if(mz_cli_sources AND EXISTS ${mz_cli_main})
  add_library(mezzotint_cli_core STATIC ${mz_cli_sources})
  set_target_properties(mezzotint_cli_core PROPERTIES LINKER_LANGUAGE CXX)
  target_compile_options(mezzotint_cli_core PRIVATE $<$<CONFIG:Release>:-O1>)  # a fifth less to compile
  target_link_libraries(mezzotint_cli_core PRIVATE mz_flags PUBLIC mezzotint_core CLI11::CLI11)
  mz_precompile(mezzotint_cli_core <CLI/CLI.hpp>)

  add_executable(mezzotint_cli ${mz_cli_main})
  set_target_properties(mezzotint_cli PROPERTIES OUTPUT_NAME mezzotint)
  target_link_libraries(mezzotint_cli PRIVATE mz_flags mezzotint_cli_core)
endif()
