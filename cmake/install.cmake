include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(mz_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mezzotint)

install(TARGETS mezzotint EXPORT mezzotintTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET mezzotint_cli)
  install(TARGETS mezzotint_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
endif()
install(FILES ${mz_public_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mezzotint COMPONENT development)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(EXPORT mezzotintTargets NAMESPACE mezzotint:: DESTINATION ${mz_config_dir} COMPONENT development)

configure_package_config_file(cmake/mezzotintConfig.cmake.in mezzotintConfig.cmake
                              INSTALL_DESTINATION ${mz_config_dir})
write_basic_package_version_file(mezzotintConfigVersion.cmake COMPATIBILITY SameMajorVersion)
configure_file(cmake/mezzotint.pc.in mezzotint.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mezzotintConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/mezzotintConfigVersion.cmake
        DESTINATION ${mz_config_dir} COMPONENT development)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mezzotint.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
