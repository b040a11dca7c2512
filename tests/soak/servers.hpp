// Re-request servers and the snapshot server of the soak's exchange: good ones, and each way in which one
// fails or lies that a receiver can see through.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "frame/moldudp64.hpp"
#include "handler.hpp"
#include "model.hpp"
#include "random.hpp"
#include "schedule.hpp"
#include "snapshot/image_reader.hpp"
#include "stream.hpp"

namespace soak {

inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

struct Reply {
    std::size_t server;
    std::vector<std::uint8_t> datagram;
};

class RewindServers {
  public:
    explicit RewindServers(std::uint64_t seed) : random_(seed, 7002) {}

    // The exchange has sent everything of the stream below `sent_end`.
    void on_request(std::size_t server, const std::uint8_t* request, Answer answer, const Stream& stream,
                    std::uint64_t sent_end, std::int64_t now_ns) {
        std::uint64_t first = fh::frame::load_be64(request + 10);
        std::uint64_t wanted = fh::frame::load_be16(request + 18);
        std::int64_t latency_ns = 20'000 + random_.below(200'000);
        if (answer == Answer::silent || (answer == Answer::lossy && random_.below(2) == 0)) return;
        if (answer == Answer::slow) latency_ns += random_.below(80'000'000);
        if (answer == Answer::other_numbers) first += random_.below(2) == 0 ? wanted : random_.below(100'000);
        if (answer == Answer::overlong) wanted *= 2;
        if (answer == Answer::partial) wanted = 1;
        if (first == 0 || first >= sent_end || wanted == 0) return;
        const auto count = stream.fitting(first, std::min(wanted, sent_end - first), most_bytes);
        std::vector<std::uint8_t> datagram(fh::frame::mold_header_bytes);
        const std::string& session = answer == Answer::wrong_session ? foreign_ : stream.session();
        fh::frame::encode_mold_header(datagram.data(), session.data(), first, count);
        const auto blocks = stream.blocks(first, count);
        datagram.insert(datagram.end(), blocks.begin(), blocks.end());
        if (answer == Answer::truncated)
            datagram.resize(random_.below(static_cast<std::uint32_t>(datagram.size())));
        if (answer == Answer::garbage) {
            // Bytes after a true header, cut so that they cannot be well formed.
            for (std::size_t i = 18; i < datagram.size(); ++i)
                datagram[i] = static_cast<std::uint8_t>(random_.next());
            datagram.resize(fh::frame::mold_header_bytes + 1);
            datagram[18] = 1;
        }
        replies_.emplace(now_ns + latency_ns, Reply{server, std::move(datagram)});
        if (random_.below(50) == 0) {  // the network doubles it
            Reply again = replies_.begin()->second;
            replies_.emplace(now_ns + 2 * latency_ns, std::move(again));
        }
    }

    std::int64_t next_due_ns() const { return replies_.empty() ? never_ns : replies_.begin()->first; }
    Reply take() {
        Reply reply = std::move(replies_.begin()->second);
        replies_.erase(replies_.begin());
        return reply;
    }
    void forget() { replies_.clear(); }

  private:
    static constexpr std::size_t most_bytes = 1400;
    inline static const std::string foreign_ = "YESTERDAY1";
    fh::Random random_;
    std::multimap<std::int64_t, Reply> replies_;
};

// Serves the books of the exchange's session, from a model of its own.
class SnapshotServer {
  public:
    SnapshotServer(std::uint64_t seed, std::uint64_t first_to_apply_offset)
        : random_(seed, 7003), offset_(first_to_apply_offset) {}

    void serve(const Stream& stream) {
        stream_ = &stream;
        model_ = Model();
        before_ = {};
        forget();
    }
    void forget() { login_ns_ = due_ns_ = never_ns; }

    void on_request(std::int64_t now_ns) {
        login_ns_ = now_ns + 200'000 + random_.below(2'000'000);
        due_ns_ = never_ns;
    }
    std::int64_t next_due_ns() const { return std::min(login_ns_, due_ns_); }

    // At next_due_ns(). True: the load is over, take() its result.
    bool turn(Image how, std::uint64_t sent_end, std::int64_t now_ns) {
        if (now_ns >= due_ns_) return true;
        login_ns_ = never_ns;
        how_ = how;
        if (how == Image::refused || how == Image::silent) {
            due_ns_ = now_ns + (how == Image::silent ? 15'000'000'000 : 100'000);
            return false;
        }
        Copy image = how == Image::old && before_.number != 0 ? before_ : copy(sent_end);
        if (how == Image::good) before_ = image;
        due_ns_ = now_ns + static_cast<std::int64_t>(image.bytes.size()) * 10;  // 800 Mbit/s
        if (how == Image::slow) due_ns_ += 1'000'000'000 + random_.below(2'000'000'000);
        image_ = std::move(image);
        return false;
    }

    // What the client makes of it; nothing: it failed.
    std::unique_ptr<fh::snapshot::ImageReader> take() {
        due_ns_ = never_ns;
        if (how_ == Image::refused || how_ == Image::silent) return nullptr;
        using Reader = fh::snapshot::ImageReader;
        auto reader = std::make_unique<Reader>(book_limits, 0);
        const std::size_t cut = how_ == Image::cut ? image_.bytes.size() / 2 : image_.bytes.size();
        auto result = Reader::Result::more;
        const std::uint8_t* order = nullptr;
        for (std::size_t at = 0; at + 2 <= cut;) {
            const auto length = static_cast<std::uint16_t>(image_.bytes[at] << 8 | image_.bytes[at + 1]);
            if (at + 2 + length > cut) break;
            const std::uint8_t* p = &image_.bytes[at + 2];
            if (p[0] == 'A') order = p;
            result = reader->on_message({p, length});
            at += 2u + length;
        }
        if (how_ == Image::contradictory && order != nullptr) result = reader->on_message({order, 36});
        if (result == Reader::Result::more) {
            char end[22];
            const std::uint64_t number = image_.number + (how_ == Image::absurd ? 1'000'000'000 : 0);
            std::snprintf(end, sizeof end, "G%20llu", static_cast<unsigned long long>(number - offset_));
            if (how_ != Image::cut)
                result = reader->on_message({reinterpret_cast<const std::uint8_t*>(end), 21});
        }
        if (result != Reader::Result::done) reader.reset();
        return reader;
    }

  private:
    struct Copy {
        std::vector<std::uint8_t> bytes;  // messages, each behind its length
        std::uint64_t number = 0;         // of the first message it does not contain
    };

    Copy copy(std::uint64_t sent_end) {
        while (model_.next() < sent_end) model_.apply(model_.next(), stream_->message(model_.next()));
        Copy out;
        out.number = sent_end;
        model_.image([&](std::span<const std::uint8_t> message) {
            out.bytes.push_back(0);
            out.bytes.push_back(static_cast<std::uint8_t>(message.size()));
            out.bytes.insert(out.bytes.end(), message.begin(), message.end());
        });
        return out;
    }

    fh::Random random_;
    std::uint64_t offset_;
    const Stream* stream_ = nullptr;
    Model model_;
    Copy before_, image_;
    Image how_ = Image::good;
    std::int64_t login_ns_ = never_ns, due_ns_ = never_ns;
};

}  // namespace soak
