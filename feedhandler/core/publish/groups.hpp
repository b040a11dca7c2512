// Records put together for topics: groups of one schema and one instrument. The order within a group is the
// feed's; groups are in the order of their first record. An event or a change of the state closes all groups,
// so that nothing moves across it. Records without a number of their own (status, imbalance, definition) are
// groups of one: the group's number is theirs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "../event.hpp"
#include "../record/dbn.hpp"
#include "layout.hpp"

namespace fh::publish {

struct Group {
    std::uint8_t schema;          // dbn::Schema
    std::uint8_t state;           // FeedState when the records were published
    std::uint32_t sequence;       // of the last record, low 32 bits
    std::uint32_t instrument_id;  // 0 for events
    std::vector<std::byte> bodies;
    std::size_t count;
};

class GroupBuilder {
  public:
    void add(const RecordHeader& header, const std::byte* body) {
        const bool event = header.schema == static_cast<std::uint8_t>(dbn::Schema::event);
        if (event && is_trading(body)) return;  // native: for readers of shared memory
        if (event || header.state != state_) open_.clear();
        state_ = header.state;
        std::uint32_t instrument_id = 0;
        if (!event)
            std::memcpy(&instrument_id, body + offsetof(dbn::Header, instrument_id), sizeof instrument_id);
        const std::uint64_t key = std::uint64_t{instrument_id} << 8 | header.schema;
        const auto [entry, fresh] = open_.try_emplace(key, groups_.size());
        if (fresh) groups_.push_back({header.schema, header.state, 0, instrument_id, {}, 0});
        Group& group = groups_[entry->second];
        group.bodies.insert(group.bodies.end(), body, body + header.length - sizeof(RecordHeader));
        group.sequence = header.sequence;
        ++group.count;
        if (event) open_.clear();
        if (!has_number(header.schema)) open_.erase(key);
    }

    const std::vector<Group>& groups() const { return groups_; }

    void clear() {
        groups_.clear();
        open_.clear();
    }

  private:
    static bool has_number(std::uint8_t schema) {
        switch (static_cast<dbn::Schema>(schema)) {
            case dbn::Schema::mbo:
            case dbn::Schema::mbp_1:
            case dbn::Schema::mbp_10:
            case dbn::Schema::trades:
                return true;
            default:
                return false;
        }
    }

    std::vector<Group> groups_;
    std::unordered_map<std::uint64_t, std::size_t> open_;
    std::uint8_t state_ = 255;
};

}  // namespace fh::publish
