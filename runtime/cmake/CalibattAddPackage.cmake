#[[
calibatt_add_package(NAME <name> PROFILE <profile>
  [ARCHS <arch>] [OUTPUT <file>] [OPTIONS <option>...] [DEPENDS <file>...] [EMBED])

Compiles a calibration profile into <name>.calibatt in the current binary folder (or into OUTPUT) as
part of the build: again where the profile, these arguments, the compiler or NVRTC have changed, and
not otherwise. OPTIONS are those of `calibatt compile`. Kernels that did not change come from its
cache (see `calibatt compile --help`; OPTIONS --cache <folder> or --no-cache). NVRTC is looked for
when the build runs, as the README says: in $CUDA_HOME, /usr/local/cuda or $CALIBATT_CUDA_WHEELS.

Makes the target <name>, which has the path of the package as its property CALIBATT_PACKAGE:
  without EMBED  a custom target, built by default
  with EMBED     a library with the package inside, as read-only data aligned to 64 bytes. Who links
                 it includes <name>.calibatt.h, which declares
                   calibatt_embedded_<name>        its first byte
                   calibatt_embedded_<name>_end    the byte after its last
                   calibatt_open_embedded_<name>   opens it; needs calibatt::runtime, which is linked
                 Characters of <name> that C does not have in identifiers become underscores.
                 For packages up to 1 GiB: the default memory model of programs ends at 2 GiB.
]]
function(calibatt_add_package)
  cmake_parse_arguments(PARSE_ARGV 0 arg "EMBED" "NAME;PROFILE;OUTPUT" "ARCHS;OPTIONS;DEPENDS")
  if(DEFINED arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "calibatt_add_package: unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  foreach(required NAME PROFILE)
    if(NOT arg_${required})
      message(FATAL_ERROR "calibatt_add_package: ${required} is required")
    endif()
  endforeach()
  if(NOT CALIBATT_COMPILE_COMMAND AND TARGET calibatt-compile)
    set(CALIBATT_COMPILE_COMMAND calibatt-compile) # this build makes it
  endif()
  if(NOT CALIBATT_COMPILE_COMMAND)
    message(FATAL_ERROR "calibatt_add_package(NAME ${arg_NAME}): calibatt-compile is not installed "
      "beside this package (component `compiler`) nor on PATH; set CALIBATT_COMPILE_COMMAND to it")
  endif()
  list(LENGTH arg_ARCHS archs)
  if(archs GREATER 1)
    message(FATAL_ERROR "calibatt_add_package(NAME ${arg_NAME}): ARCHS are ${arg_ARCHS}: a package "
      "has the kernels of one architecture")
  elseif(archs EQUAL 1)
    list(PREPEND arg_OPTIONS --arch ${arg_ARCHS})
  endif()

  if(NOT arg_OUTPUT)
    set(arg_OUTPUT ${arg_NAME}.calibatt)
  endif()
  cmake_path(ABSOLUTE_PATH arg_OUTPUT BASE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  cmake_path(ABSOLUTE_PATH arg_PROFILE BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})

  # Makefiles do not notice that a command has changed; a file with it they do.
  set(options_file ${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.calibatt.options)
  list(JOIN arg_OPTIONS "\n" options)
  file(GENERATE OUTPUT ${options_file} CONTENT "${CALIBATT_COMPILE_COMMAND}\n${options}\n")
  add_custom_command(
    OUTPUT ${arg_OUTPUT}
    COMMAND ${CALIBATT_COMPILE_COMMAND} ${arg_PROFILE} -o ${arg_OUTPUT}
            --depfile ${arg_OUTPUT}.d ${arg_OPTIONS}
    DEPENDS ${arg_PROFILE} ${options_file} ${CALIBATT_COMPILE_COMMAND} ${arg_DEPENDS}
    DEPFILE ${arg_OUTPUT}.d
    COMMENT "Compiling the attention kernels of ${arg_NAME}"
    VERBATIM)
  if(NOT arg_EMBED)
    add_custom_target(${arg_NAME} ALL DEPENDS ${arg_OUTPUT})
  else()
    _calibatt_embed(${arg_NAME} ${arg_OUTPUT})
  endif()
  set_target_properties(${arg_NAME} PROPERTIES CALIBATT_PACKAGE ${arg_OUTPUT})
endfunction()

# A library `name` of one object file: the package between two symbols.
function(_calibatt_embed name package)
  if(NOT TARGET calibatt::runtime)
    message(FATAL_ERROR "calibatt_add_package(NAME ${name} EMBED): needs the component `runtime`")
  endif()
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(C IN_LIST languages)
    set(extension c)
  elseif(CXX IN_LIST languages)
    set(extension cpp)
  else()
    message(FATAL_ERROR "calibatt_add_package(NAME ${name} EMBED): the project has neither C nor CXX")
  endif()
  string(MAKE_C_IDENTIFIER calibatt_embedded_${name} CALIBATT_SYMBOL)
  string(MAKE_C_IDENTIFIER calibatt_open_embedded_${name} CALIBATT_FUNCTION)
  set(CALIBATT_NAME ${name})
  string(REGEX REPLACE "([\\\\\"])" "\\\\\\1" CALIBATT_FILE "${package}")
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${name}.calibatt.embedded)
  set(source ${folder}/${name}.${extension})
  set(header ${folder}/${name}.calibatt.h)
  set(templates ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  configure_file(${templates}/embedded.c.in ${source} @ONLY)
  configure_file(${templates}/embedded.h.in ${header} @ONLY)
  # The assembler reads the package: compilers do not list it among what they read. Link-time
  # optimisers do not see the symbols of assembly.
  set_source_files_properties(${source} PROPERTIES
    OBJECT_DEPENDS ${package} COMPILE_OPTIONS -fno-lto)
  add_library(${name} STATIC ${source} ${header})
  target_include_directories(${name} PUBLIC ${folder})
  target_link_libraries(${name} PUBLIC calibatt::runtime)
endfunction()
