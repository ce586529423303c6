#include "cli/progress.h"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <utility>

#include <fmt/format.h>

#include "cli/interrupt.h"
#include "cli/text.h"

namespace mezzotint::cli {
namespace {

constexpr double kBarInterval = 0.1;    // seconds between redraws
constexpr double kPlainInterval = 5.0;  // seconds between plain lines
constexpr int kBarCells = 26;
constexpr double kTrustShare = 0.005;  // below this share of the work an ETA is a guess

}  // namespace

Progress::Seconds Progress::steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Progress::Progress(std::ostream& err, ProgressMode mode, int columns, std::string title,
                   Clock clock)
    : err_(&err),
      mode_(mode),
      columns_(columns),
      title_(std::move(title)),
      clock_(std::move(clock)),
      started_(clock_()),
      shown_(started_) {}

Progress::Progress(Progress&& other) noexcept
    : err_(std::exchange(other.err_, nullptr)),
      mode_(other.mode_),
      columns_(other.columns_),
      title_(std::move(other.title_)),
      clock_(std::move(other.clock_)),
      started_(other.started_),
      shown_(other.shown_),
      bar_visible_(std::exchange(other.bar_visible_, false)),
      any_shown_(other.any_shown_) {}

// An exception on its way to the user must not leave half a line.
Progress::~Progress() {
  if (err_ != nullptr && bar_visible_) *err_ << "\r\033[K" << std::flush;
}

void Progress::update(double done, double total, std::string_view item, std::string_view note) {
  throw_if_interrupted();
  if (mode_ == ProgressMode::kNone) return;
  const Seconds now = clock_();
  const double share = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0.0;
  const double interval = mode_ == ProgressMode::kBar ? kBarInterval : kPlainInterval;
  if (any_shown_ && now - shown_ < interval) return;
  shown_ = now;
  any_shown_ = true;
  if (mode_ == ProgressMode::kBar) {
    *err_ << "\r\033[K" << bar_line(share, item, note, now) << std::flush;
    bar_visible_ = true;
  } else {
    *err_ << plain_line(share, item, note, now) << '\n' << std::flush;
  }
}

void Progress::finish() {
  if (mode_ == ProgressMode::kNone || err_ == nullptr) return;
  if (bar_visible_) *err_ << "\r\033[K" << std::flush;
  bar_visible_ = false;
  if (mode_ == ProgressMode::kPlain) {
    *err_ << fmt::format("{}: done in {}\n", title_, human_seconds(clock_() - started_))
          << std::flush;
  }
}

std::string Progress::time_left(double share, Seconds now) const {
  if (share < kTrustShare) return "";
  return human_clock((now - started_) * (1 - share) / share) + " left";
}

std::string Progress::bar_line(double share, std::string_view item, std::string_view note,
                               Seconds now) const {
  const auto filled = static_cast<size_t>(std::lround(share * kBarCells));
  const std::string bar = std::string(filled, '#') + std::string(kBarCells - filled, '-');
  std::string tail;
  if (!note.empty()) tail += fmt::format("  {}", note);
  const std::string left = time_left(share, now);
  if (!left.empty()) tail += fmt::format("  {}", left);
  const std::string head = fmt::format("[{}] {:3.0f}%  ", bar, share * 100);
  const auto room = static_cast<int64_t>(columns_) - 1 - static_cast<int64_t>(head.size()) -
                    static_cast<int64_t>(tail.size());
  const std::string name =
      ellipsized(printable(item), static_cast<size_t>(std::max<int64_t>(room, 0)));
  const std::string line = head + name + tail;
  return line.substr(0, static_cast<size_t>(std::max(columns_ - 1, 1)));
}

std::string Progress::plain_line(double share, std::string_view item, std::string_view note,
                                 Seconds now) const {
  std::string line = fmt::format("{}: {:.0f}%", title_, share * 100);
  if (!item.empty()) line += fmt::format("  {}", printable(item));
  if (!note.empty()) line += fmt::format("  {}", note);
  const std::string left = time_left(share, now);
  if (!left.empty()) line += fmt::format("  {}", left);
  return line;
}

}  // namespace mezzotint::cli
