-- Intent: the migrations that put the record into parts (0016 and later) bound it by the present
--         year. Where it has a later time, as a server's clock was far ahead, none of them begins.
-- Safety: reads a row of each organization and shard, and changes nothing.
DO $do$
DECLARE
    latest BIGINT;
    year INTEGER := 1 + extract(year FROM now() AT TIME ZONE 'UTC' + interval '30 days');
BEGIN
    IF to_regclass('spend_by_id') IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT greatest((SELECT max(floor) FROM ledger_head), (SELECT max(floor) FROM shard_authority))
        INTO latest;
    IF to_timestamp(latest / 1000000) >= make_timestamptz(year, 1, 1, 0, 0, 0, 'UTC') THEN
        RAISE EXCEPTION 'the record has a time of %, as the clock of a server was ahead; it can be '
            'put into parts from a month before that year on', to_timestamp(latest / 1000000)
            USING HINT = 'until then go on with the release before this one';
    END IF;
END $do$;
