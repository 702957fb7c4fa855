// `calibatt check`: is every file as it was written.
#include "runtime/tools/CheckCommand.h"

#include "runtime/format/Quantity.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/check/FileCheck.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <memory>

namespace calibatt {
namespace {

struct CheckOptions {
  std::vector<std::string> files;
  bool json = false;
};

std::string checkText(const FileCheck &check, const TextStyle &style) {
  const bool sites = check.kind == "counts" || check.kind == "record";
  std::string text =
      fmt::format("{}  {}, {}, ", check.path, check.kind.empty() ? "unknown" : check.kind,
                  byteQuantity(check.bytes));
  if (!check.passed())
    return text + style.bad("failed") + "\n";
  if (check.hashed)
    text += fmt::format("{}, {}: {}\n", counted(check.tensors, "tensor"),
                        counted(check.chunks, sites                     ? "site"
                                              : check.kind == "profile" ? "head"
                                                                        : "chunk"),
                        style.good("as written"));
  else
    text += "no damage found\n";
  if (!check.note.empty())
    text += "  note: " + check.note + "\n";
  return text;
}

int runCheck(const CheckOptions &options) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  bool passed = true;
  for (const std::string &file : options.files) {
    const FileCheck check = checkFile(file);
    passed = passed && check.passed();
    if (options.json) {
      files.push_back(checkJson(check));
      continue;
    }
    for (const FileFault &fault : check.faults)
      reportFailure(fault.message);
    if (int code = printText(checkText(check, stdoutStyle())))
      return code;
  }
  if (options.json)
    if (int code = printJson({{"passed", passed}, {"files", std::move(files)}}))
      return code;
  return passed ? kExitDone : kExitFailed;
}

} // namespace

void addCheck(CLI::App &app, int &exitCode) {
  auto *command = app.add_subcommand(
      "check", "Compare every hash in packages, shards, profiles and counts with what it is of");
  auto options = std::make_shared<CheckOptions>();
  command
      ->add_option("files", options->files,
                   "Files of any kind; dumps and bitmaps have no hashes, of them the structure")
      ->type_name("FILE")
      ->required();
  command->add_flag("--json", options->json, "Machine-readable output");
  command->callback([options, &exitCode] { exitCode = runCheck(*options); });
}

} // namespace calibatt
