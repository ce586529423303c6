// A progress display with an ETA: one live line on a terminal, else a plain line now and then.
//
//   Progress progress = session.progress("quantizing");
//   progress.update(done_bytes, total_bytes, layer, "SQNR 38.2 dB");   // any unit of work
//   progress.finish();
//
// For one thread. update() throws Error(kInterrupted) after SIGINT.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace mezzotint::cli {

enum class ProgressMode : uint8_t { kAuto, kBar, kPlain, kNone };

class Progress {
 public:
  using Seconds = double;
  using Clock = std::function<Seconds()>;  // monotonic

  Progress(std::ostream& err, ProgressMode mode, int columns, std::string title,
           Clock clock = steady_seconds);
  ~Progress();
  Progress(Progress&& other) noexcept;
  Progress& operator=(Progress&&) = delete;

  void update(double done, double total, std::string_view item, std::string_view note = "");
  void finish();  // clears the bar; plain mode: says how long it took

  static Seconds steady_seconds();

 private:
  std::string bar_line(double share, std::string_view item, std::string_view note,
                       Seconds now) const;
  std::string plain_line(double share, std::string_view item, std::string_view note,
                         Seconds now) const;
  std::string time_left(double share, Seconds now) const;

  std::ostream* err_;  // null when moved from
  ProgressMode mode_;
  int columns_;
  std::string title_;
  Clock clock_;
  Seconds started_;
  Seconds shown_;
  bool bar_visible_ = false;
  bool any_shown_ = false;
};

}  // namespace mezzotint::cli
