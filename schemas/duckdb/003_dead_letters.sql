-- What a dead letter is known by, what else it takes to put it back, and when that was done. Rows of before have no id.
ALTER TABLE dead_letters ADD COLUMN id VARCHAR DEFAULT '';      -- "partition.sequence.index" of the letter itself
ALTER TABLE dead_letters ADD COLUMN context VARCHAR DEFAULT ''; -- JSON
ALTER TABLE dead_letters ADD COLUMN replayed_at TIMESTAMP_NS;
ALTER TABLE dead_letters ADD COLUMN replayed_by VARCHAR DEFAULT '';
