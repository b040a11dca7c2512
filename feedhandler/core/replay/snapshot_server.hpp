// The snapshot server of the simulated exchange, in process and on virtual time: its image is as of the last
// packet that the exchange had sent when it was asked, and takes its time to come.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "frame/byte_order.hpp"
#include "replay/store.hpp"
#include "snapshot/image_reader.hpp"
#include "snapshot/image_writer.hpp"

namespace fh::replay {

class SnapshotServer {
  public:
    static constexpr std::int64_t login_ns = 500'000;  // connection and login
    static constexpr std::int64_t bytes_per_us = 100;  // then it comes at 800 Mbit/s

    // From now on `session` is what it answers for; it must outlive the server.
    void serve(const InputSession& session, std::int64_t midnight_ns) {
        session_ = &session;
        midnight_ns_ = midnight_ns;
        writer_.reset();
        reader_.reset();
        due_ns_ = never;
    }

    // The exchange has sent everything below `end`.
    void on_request(std::uint64_t end, std::int64_t now_ns) {
        reader_.reset();
        due_ns_ = now_ns + login_ns;
        if (!follow(end)) return;
        const std::vector<std::uint8_t> image = writer_->image();
        due_ns_ += static_cast<std::int64_t>(image.size()) * 1000 / bytes_per_us;
        load(image);
    }

    std::int64_t next_due_ns() const { return due_ns_; }
    // The number that G tells, or nothing: it could not be had. Takes it off the queue.
    std::optional<std::uint64_t> take() {
        due_ns_ = never;
        if (!reader_) return std::nullopt;
        return reader_->number();
    }
    // Of the snapshot taken last.
    book::BookSet& books() { return reader_->books(); }

  private:
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

    // False: the input itself has a hole before `end`.
    bool follow(std::uint64_t end) {
        if (!writer_) writer_ = std::make_unique<snapshot::ImageWriter>(session_->first);
        std::vector<std::uint8_t> blocks;
        while (writer_->next_sequence() < end) {
            blocks.clear();
            const std::uint64_t wanted = std::min<std::uint64_t>(end - writer_->next_sequence(), 1024);
            const auto most = static_cast<std::uint16_t>(wanted);
            auto count = session_->store.copy(writer_->next_sequence(), most, 1 << 20, blocks).count;
            if (count == 0) return false;
            for (const std::uint8_t* p = blocks.data(); count > 0; --count) {
                const std::uint16_t length = frame::load_be16(p);
                writer_->apply({p + 2, length});
                p += 2 + length;
            }
        }
        return writer_->complete();
    }

    void load(const std::vector<std::uint8_t>& image) {
        auto reader = std::make_unique<snapshot::ImageReader>(book::BookLimits{}, midnight_ns_);
        auto result = snapshot::ImageReader::Result::more;
        for (std::size_t at = 0; at < image.size();) {
            const std::uint16_t length = frame::load_be16(&image[at]);
            result = reader->on_message({&image[at + 3], static_cast<std::uint16_t>(length - 1)});
            at += 2u + length;
        }
        if (result == snapshot::ImageReader::Result::done) reader_ = std::move(reader);
    }

    const InputSession* session_ = nullptr;
    std::int64_t midnight_ns_ = 0;
    std::unique_ptr<snapshot::ImageWriter> writer_;
    std::unique_ptr<snapshot::ImageReader> reader_;
    std::int64_t due_ns_ = never;
};

}  // namespace fh::replay
