// How both programs read their command lines: what is wrong is said in one form,
// beginning with the program's name, and names what was probably meant.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// The candidate with the fewest letters to change, add, leave out or swap, the first of equals;
/// empty where none is near: more than two letters, or more than a third of the word.
std::string nearestWord(const std::string &word, const std::vector<std::string> &candidates);
/// "a, b or c".
std::string alternatives(const std::vector<std::string> &words);

/// Help and version text (exit code 0), or "PROGRAM: error: ..." on stderr with where to find
/// help (exit code 2). `app` is the program as it was when parse() threw.
int reportParseError(const CLI::App &app, const CLI::ParseError &error);
/// The second half of it, for what only shows after parsing: always 2. `command` is the words of
/// the command, such as "calibatt inspect show".
int reportUsage(const std::string &program, const std::string &command, const std::string &message);
/// Short type names and nothing of who excludes whom: one line an option where it fits.
void shortenHelp(CLI::App &app);

/// Whole numbers; a message that names both ends where the text is none or outside.
CLI::Validator wholeNumber(uint64_t least, uint64_t most);
/// Finite numbers above 0.
CLI::Validator numberAboveZero();
/// One of some words, which help shows in place of the option's type.
void addChoice(CLI::Option &option, const std::vector<std::string> &words);
/// Bytes: a whole number that may end in a unit, such as 16GiB or 500MB (all powers of 1024).
void addByteSize(CLI::Option &option);

} // namespace calibatt
