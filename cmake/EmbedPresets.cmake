# Compiles presets/*.yaml into the library as texts, so that an installed library needs no files:
# defines preset_texts() of src/quant/presets.h.

# mz_embed_presets(<target>)
function(mz_embed_presets target)
  file(GLOB presets CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/presets/*.yaml)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${presets})
  set(rows "")
  foreach(preset IN LISTS presets)
    get_filename_component(name ${preset} NAME)
    file(READ ${preset} text)
    string(APPEND rows "    {\"presets/${name}\", R\"yaml(${text})yaml\"},\n")
  endforeach()
  set(source ${PROJECT_BINARY_DIR}/generated/preset_texts.cc)
  string(CONCAT content
    "// Made from presets/*.yaml by cmake/EmbedPresets.cmake.\n"
    "#include \"quant/presets.h\"\n\n"
    "namespace mezzotint {\nnamespace {\n\n"
    "constexpr PresetText kTexts[] = {\n${rows}};\n\n"
    "}  // namespace\n\n"
    "std::span<const PresetText> preset_texts() { return kTexts; }\n\n"
    "}  // namespace mezzotint\n")
  file(GENERATE OUTPUT ${source} CONTENT "${content}")
  target_sources(${target} PRIVATE ${source})
endfunction()
