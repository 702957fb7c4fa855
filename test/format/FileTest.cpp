// Files that appear whole or not at all, and those that are read.
#include "runtime/format/AtomicFile.h"
#include "runtime/format/InputFile.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <csignal>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace calibatt;
using namespace calibatt::test;

TEST_CASE("an input file has the bytes of the file, an empty one none") {
  Random random;
  ScratchFolder folder;
  std::vector<uint8_t> bytes = random.bytes(random.integer(1, 20000));
  writeBytes(folder.file("a"), bytes);
  writeBytes(folder.file("empty"), {});
  Result<InputFile> file = InputFile::open(folder.file("a"));
  REQUIRE(file);
  InputFile moved = file.take();
  for (const InputFile &input : {InputFile::borrow("memory", bytes), std::move(moved)}) {
    CHECK(input.size() == bytes.size());
    CHECK(*input.read(0, bytes.size()) == bytes);
    const uint64_t at = random.integer(0, bytes.size()), count = bytes.size() - at;
    CHECK(*input.read(at, count) == std::vector<uint8_t>(bytes.begin() + int64_t(at), bytes.end()));
    CHECK(*input.sha256() == sha256(bytes));
    CHECK_FALSE(input.read(at, count + 1));
    CHECK_FALSE(input.read(bytes.size() + 1, 0));
    CHECK_FALSE(input.read(1, ~uint64_t(0)));
  }
  Result<InputFile> empty = InputFile::open(folder.file("empty"));
  REQUIRE(empty);
  CHECK(empty->size() == 0);
  CHECK(empty->read(0, 0)->empty());
  CHECK(*empty->sha256() == sha256({}));
}

TEST_CASE("a file that is truncated while it is open gives an error that says so") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  const std::vector<uint8_t> bytes = random.bytes(random.integer(3 << 20, 4 << 20));
  writeBytes(folder.file("a"), bytes);
  Result<InputFile> file = InputFile::open(folder.file("a"));
  REQUIRE(file);
  const uint64_t left = random.integer(0, bytes.size() - 1);
  REQUIRE(::truncate(folder.file("a").c_str(), off_t(left)) == 0);
  const std::string wanted =
      fmt::format("{}: ends at byte {}, but had {} bytes when it was opened: somebody truncated it",
                  folder.file("a"), left, bytes.size());
  CHECK(file->read(0, bytes.size()).message() == wanted);
  CHECK(file->sha256().message() == wanted);
  CHECK(*file->read(0, left) == std::vector<uint8_t>(bytes.begin(), bytes.begin() + int64_t(left)));
  REQUIRE(::unlink(folder.file("a").c_str()) == 0);
  CHECK(file->read(0, left));
}

TEST_CASE("what is no readable regular file cannot be read, and the message says why") {
  ScratchFolder folder;
  CHECK(InputFile::open(folder.file("none")).message() ==
        folder.file("none") + ": cannot open: No such file or directory");
  CHECK(InputFile::open(folder.path()).message() ==
        folder.path() + ": is a directory, not a regular file");
  CHECK(InputFile::open("/dev/null").message().find("a device") != std::string::npos);
  REQUIRE(::mkfifo(folder.file("fifo").c_str(), 0600) == 0);
  CHECK_FALSE(InputFile::open(folder.file("fifo")));
}

TEST_CASE("an atomic file replaces the old one only when it is committed") {
  Random random;
  ScratchFolder folder;
  std::string path = folder.file("out");
  const std::vector<uint8_t> old = random.bytes(10), fresh = random.bytes(3000);
  writeBytes(path, old);
  {
    Result<AtomicFile> file = AtomicFile::create(path);
    REQUIRE(file);
    REQUIRE(file->write(fresh));
    CHECK(readBytes(path) == old);
  }
  CHECK(folder.list() == std::vector<std::string>{"out"});
  CHECK(readBytes(path) == old);
  Result<AtomicFile> file = AtomicFile::create(path);
  REQUIRE(file);
  AtomicFile moved = file.take();
  REQUIRE(moved.write(fresh));
  CHECK(moved.size() == fresh.size());
  REQUIRE(moved.commit());
  CHECK(readBytes(path) == fresh);
  CHECK(folder.list() == std::vector<std::string>{"out"});
}

TEST_CASE("a process that is killed while it writes leaves what was there") {
  ScratchFolder folder;
  const int probe = ::open(folder.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (probe < 0) {
    MESSAGE("skipped: the file system of ", folder.path(), " has no files without a name");
    return;
  }
  ::close(probe);
  const std::vector<uint8_t> old = Random().bytes(10);
  writeBytes(folder.file("out"), old);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
    Result<SpoolFile> spool = SpoolFile::create(folder.file("out"));
    if (file && spool && file->write(old) && spool->write(old))
      ::raise(SIGKILL);
    ::_exit(1);
  }
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  CHECK(WIFSIGNALED(state));
  CHECK(folder.list() == std::vector<std::string>{"out"});
  CHECK(readBytes(folder.file("out")) == old);
}

TEST_CASE("a new file has the permissions that the umask allows") {
  ScratchFolder folder;
  mode_t before = ::umask(027);
  Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
  ::umask(before);
  REQUIRE(file);
  REQUIRE(file->commit());
  struct stat info{};
  REQUIRE(::stat(folder.file("out").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("unwritable places are refused before anything is written") {
  ScratchFolder folder;
  CHECK(AtomicFile::create(folder.file("none/out")).message() ==
        folder.file("none/out") + ": cannot write: No such file or directory");
  CHECK(AtomicFile::create(folder.path()).message().find("is a directory") != std::string::npos);
  CHECK(AtomicFile::create("/dev/full").message().find("is a device") != std::string::npos);
  CHECK_FALSE(SpoolFile::create(folder.file("none/out")));
  // Permissions do not stop root.
  if (::geteuid() != 0) {
    REQUIRE(::chmod(folder.path().c_str(), 0500) == 0);
    CHECK(AtomicFile::create(folder.file("out")).message().find("Permission denied") !=
          std::string::npos);
    REQUIRE(::chmod(folder.path().c_str(), 0700) == 0);
  }
}

TEST_CASE("a full disk fails the write, for spooled data too, and nothing stays") {
  Random random;
  ScratchFolder folder;
  std::vector<uint8_t> bytes = random.bytes(9000);
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 8192;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string atomic, spooled;
  {
    Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
    Result<SpoolFile> spool = SpoolFile::create(folder.file("out"));
    if (file && spool) {
      Status a = file->write(bytes), b = spool->write(bytes);
      atomic = a ? "" : a.message();
      spooled = b ? "" : b.message();
    }
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(atomic.find("out: cannot write: ") != std::string::npos);
  CHECK(spooled.find("out: cannot write a temporary beside it: ") != std::string::npos);
  CHECK(folder.list().empty());
}

TEST_CASE("spooled data arrive whole behind what was written before") {
  Random random;
  ScratchFolder folder;
  std::vector<uint8_t> head = random.bytes(11), body = random.bytes(3u << 20);
  Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
  Result<SpoolFile> spool = SpoolFile::create(folder.file("out"));
  REQUIRE((file && spool));
  REQUIRE(file->write(head));
  REQUIRE(spool->write(std::span(body).first(1000)));
  REQUIRE(spool->write(std::span(body).subspan(1000)));
  REQUIRE(spool->copyTo(*file));
  REQUIRE(file->commit());
  std::vector<uint8_t> wanted = head;
  wanted.insert(wanted.end(), body.begin(), body.end());
  CHECK(readBytes(folder.file("out")) == wanted);
}
