# What `cmake --install` puts where, in six components:
#   runtime      the library that a finished program loads
#   calibration  libcalibatt_profile, the library that counts and selects
#   development  the headers, the CMake package and the pkg-config files to build with both
#   tools        the command `calibatt`
#   compiler     calibatt-compile, which it runs (where it was built: compiler/Driver.cmake)
#   python       the Python package, which loads the two libraries
# Nothing installed names the prefix, so that the tree may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(here ${CMAKE_CURRENT_LIST_DIR})
set(made ${PROJECT_BINARY_DIR}/install)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/calibatt)

# A library, its header, and what tells CMake and pkg-config of it. An export a library: either may
# be installed alone.
function(calibatt_install_library target component header description)
  install(TARGETS ${target} EXPORT ${target}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
      COMPONENT ${component} NAMELINK_COMPONENT development
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/calibatt COMPONENT development)
  install(EXPORT ${target} FILE calibatt-${component}-targets.cmake NAMESPACE calibatt::
    DESTINATION ${package_folder} COMPONENT development)
  set(CALIBATT_PC_NAME ${target})
  set(CALIBATT_PC_DESCRIPTION ${description})
  set(pc_folder ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
  file(RELATIVE_PATH CALIBATT_PC_TO_PREFIX ${pc_folder} ${CMAKE_INSTALL_PREFIX})
  string(REGEX REPLACE "/$" "" CALIBATT_PC_TO_PREFIX ${CALIBATT_PC_TO_PREFIX})
  file(RELATIVE_PATH CALIBATT_PC_TO_INCLUDE ${pc_folder} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
  configure_file(${here}/library.pc.in ${made}/${target}.pc @ONLY)
  install(FILES ${made}/${target}.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endfunction()
calibatt_install_library(calibatt runtime ${PROJECT_SOURCE_DIR}/runtime/include/calibatt/calibatt.h
  "Runs packages of compiled calibrated sparse attention, on a GPU or on the CPU")
calibatt_install_library(calibatt_profile calibration
  ${PROJECT_SOURCE_DIR}/calib_profiles/include/calibatt/profile.h
  "Calibrates sparse attention: counts of the blocks that prompts need, profiles made of them")
foreach(component runtime calibration)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE
    DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT ${component})
endforeach()

configure_package_config_file(${here}/calibatt-config.cmake.in ${made}/calibatt-config.cmake
  INSTALL_DESTINATION ${package_folder} PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_BINDIR
  NO_SET_AND_CHECK_MACRO)
# Until 1.0 a minor version may change what there is.
write_basic_package_version_file(${made}/calibatt-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${made}/calibatt-config.cmake
  ${made}/calibatt-config-version.cmake
  ${here}/CalibattAddPackage.cmake
  ${here}/embedded.c.in
  ${here}/embedded.h.in
  DESTINATION ${package_folder} COMPONENT development)

# All that is installed, without the tests.
add_custom_target(calibatt-installed DEPENDS calibatt calibatt_profile)
if(TARGET calibatt-tool)
  add_dependencies(calibatt-installed calibatt-tool)
  install(TARGETS calibatt-tool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
endif()
if(TARGET calibatt-compile)
  add_dependencies(calibatt-installed calibatt-compile)
  install(TARGETS calibatt-compile RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT compiler)
endif()

# Where a Python of a prefix looks by itself: `--prefix` a virtual environment, and import works.
set(python_folder lib/python3/site-packages)
find_package(Python3 QUIET COMPONENTS Interpreter)
if(Python3_FOUND)
  set(python_folder lib/python${Python3_VERSION_MAJOR}.${Python3_VERSION_MINOR}/site-packages)
endif()
set(CALIBATT_INSTALL_PYTHONDIR ${python_folder} CACHE STRING
  "Where the Python package is installed, relative to the prefix")
cmake_path(ABSOLUTE_PATH CALIBATT_INSTALL_PYTHONDIR BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}
  OUTPUT_VARIABLE python_folder)
foreach(target calibatt calibatt_profile)
  get_target_property(abi ${target} SOVERSION)
  file(RELATIVE_PATH CALIBATT_PYTHON_TO_${target} ${python_folder}/calibatt
    ${CMAKE_INSTALL_FULL_LIBDIR}/lib${target}.so.${abi})
endforeach()
file(RELATIVE_PATH CALIBATT_PYTHON_TO_COMPILER ${python_folder}/calibatt
  ${CMAKE_INSTALL_FULL_BINDIR}/calibatt-compile)
configure_file(${here}/installed.py.in ${made}/installed.py @ONLY)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/python/calibatt
  DESTINATION ${CALIBATT_INSTALL_PYTHONDIR} COMPONENT python
  FILES_MATCHING PATTERN "*.py" PATTERN __pycache__ EXCLUDE)
install(FILES ${made}/installed.py
  DESTINATION ${CALIBATT_INSTALL_PYTHONDIR}/calibatt COMPONENT python)
