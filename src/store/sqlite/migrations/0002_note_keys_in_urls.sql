-- Intent: when a key last came in the path of a URL, where others may have seen it.
-- Safety: adds a column that may be null; rows from before stay as they are.
ALTER TABLE api_key ADD COLUMN url_used_at INTEGER;
