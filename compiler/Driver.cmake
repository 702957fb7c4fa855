# From a profile to a package: the driver, its kernel cache and the program.
add_library(calibatt_compiler STATIC
  CalibrationPackage.cpp
  CompileReport.cpp
  Driver.cpp
  KernelBuild.cpp
  KernelCache.cpp
  LayerCache.cpp
  LayerEntry.cpp
  LayerLowering.cpp
  MemoryGate.cpp
  Shards.cpp)
target_compile_definitions(calibatt_compiler PRIVATE CALIBATT_VERSION="${PROJECT_VERSION}")
target_link_libraries(calibatt_compiler
  PUBLIC calibatt_format nlohmann_json::nlohmann_json
  PRIVATE calibatt_passes calibatt_lowering calibatt_codegen calibatt_profiles
          fmt::fmt-header-only Threads::Threads)

# CLI11 needs RTTI and exceptions, so the program itself sees no MLIR target.
add_executable(calibatt-compile tools/calibatt-compile.cpp ../runtime/usage/Usage.cpp)
target_link_libraries(calibatt-compile PRIVATE calibatt_options CLI11::CLI11
                                               fmt::fmt-header-only $<LINK_ONLY:calibatt_compiler>
                                               nlohmann_json::nlohmann_json)
target_compile_definitions(calibatt-compile PRIVATE CALIBATT_VERSION="${PROJECT_VERSION}")
# LLVM's libraries are not where the loader looks by itself.
set_target_properties(calibatt-compile PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
if(CALIBATT_BUILD_TESTS)
  add_subdirectory(${PROJECT_SOURCE_DIR}/test/tools/compile ${PROJECT_BINARY_DIR}/test/tools/compile)
endif()
