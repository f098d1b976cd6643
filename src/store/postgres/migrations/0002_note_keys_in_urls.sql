-- Intent: when a key last came in the path of a URL, where others may have seen it.
-- Safety: adds a column that may be null, which rewrites no row; gives up rather than wait.
SET LOCAL lock_timeout = '2s';
ALTER TABLE api_key ADD COLUMN url_used_at BIGINT;
