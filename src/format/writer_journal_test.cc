#include "format/writer_journal.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/temp_folder.h"

namespace mezzotint {
namespace {

using Start = WriterJournal::Start;

TEST(WriterJournal, FindsWhatAnEarlierRunAppended) {
  const TempFolder folder;
  const auto path = folder.path() / "j";
  {
    WriterJournal journal(path, "plan", Start::kFresh);
    journal.append(7, {1, 2});
    journal.append(0, {3, 4});
  }
  {
    WriterJournal journal(path, "plan", Start::kResume);
    EXPECT_EQ(journal.found(), (std::map<size_t, Hash128>{{0, {3, 4}}, {7, {1, 2}}}));
    journal.append(7, {5, 6});
  }
  EXPECT_EQ(WriterJournal(path, "plan", Start::kResume).found().at(7), (Hash128{5, 6}));
  EXPECT_TRUE(WriterJournal(path, "plan", Start::kFresh).found().empty());
  EXPECT_TRUE(WriterJournal(path, "plan", Start::kResume).found().empty());
}

TEST(WriterJournal, StopsAtTheFirstLineThatIsNone) {
  const TempFolder folder;
  const std::string good =
      "1\t0000000000000001"
      "0000000000000002\n";
  for (const char* bad : {"x\n", "2\t12\n", "2 00000000000000010000000000000002\n", "\n",
                          "-2\t00000000000000010000000000000002\n"}) {
    const auto path = folder.write("j", "mezzotint-journal 1 plan\n" + good + bad + good);
    const WriterJournal journal(path, "plan", Start::kResume);
    EXPECT_EQ(journal.found().size(), 1u);
    EXPECT_EQ(file_bytes(path), "mezzotint-journal 1 plan\n" + good) << "the rest is cut off";
  }
}

TEST(WriterJournal, RemoveTakesTheFileAway) {
  const TempFolder folder;
  WriterJournal journal(folder.path() / "j", "plan", Start::kFresh);
  journal.remove();
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace mezzotint
