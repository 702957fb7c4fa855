# What `cmake --install` puts where, in five components:
#   runtime      the library that a finished program loads
#   development  the header, the CMake package and the pkg-config file to build one
#   tools        the command `calibatt`
#   compiler     calibatt-compile, which it runs (where it was built: compiler/Driver.cmake)
#   python       the Python package, which loads the library of the component runtime, and
#                libcalibatt_profile, with which it calibrates
# Nothing installed names the prefix, so that the tree may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS calibatt EXPORT calibatt
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    COMPONENT runtime NAMELINK_COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)

install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/calibatt
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/calibatt)
install(EXPORT calibatt FILE calibatt-targets.cmake NAMESPACE calibatt::
  DESTINATION ${package_folder} COMPONENT development)
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/calibatt-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/calibatt-config.cmake
  INSTALL_DESTINATION ${package_folder} NO_SET_AND_CHECK_MACRO)
# Until 1.0 a minor version may change what there is.
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/calibatt-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/calibatt-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/calibatt-config-version.cmake
  ${CMAKE_CURRENT_LIST_DIR}/CalibattAddPackage.cmake
  ${CMAKE_CURRENT_LIST_DIR}/embedded.c.in
  ${CMAKE_CURRENT_LIST_DIR}/embedded.h.in
  DESTINATION ${package_folder} COMPONENT development)

set(pc_folder ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH CALIBATT_PC_TO_PREFIX ${pc_folder} ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" CALIBATT_PC_TO_PREFIX ${CALIBATT_PC_TO_PREFIX})
file(RELATIVE_PATH CALIBATT_PC_TO_INCLUDE ${pc_folder} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(${CMAKE_CURRENT_LIST_DIR}/calibatt.pc.in
               ${CMAKE_CURRENT_BINARY_DIR}/calibatt.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/calibatt.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

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
file(RELATIVE_PATH CALIBATT_PYTHON_TO_LIBRARY ${python_folder}/calibatt
  ${CMAKE_INSTALL_FULL_LIBDIR}/libcalibatt.so.${CALIBATT_ABI_VERSION})
file(RELATIVE_PATH CALIBATT_PYTHON_TO_COMPILER ${python_folder}/calibatt
  ${CMAKE_INSTALL_FULL_BINDIR}/calibatt-compile)
file(RELATIVE_PATH CALIBATT_PYTHON_TO_PROFILE_LIBRARY ${python_folder}/calibatt
  ${CMAKE_INSTALL_FULL_LIBDIR}/libcalibatt_profile.so.${CALIBATT_PROFILE_ABI_VERSION})
configure_file(${CMAKE_CURRENT_LIST_DIR}/installed.py.in
               ${CMAKE_CURRENT_BINARY_DIR}/installed.py @ONLY)
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/python/calibatt
  DESTINATION ${CALIBATT_INSTALL_PYTHONDIR} COMPONENT python
  FILES_MATCHING PATTERN "*.py" PATTERN __pycache__ EXCLUDE)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/installed.py
  DESTINATION ${CALIBATT_INSTALL_PYTHONDIR}/calibatt COMPONENT python)
