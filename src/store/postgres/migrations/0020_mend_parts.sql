-- Intent: decisions that were recorded before their year had a part move into it, and keep it from
--         being made no longer; who inserts decisions may have parts made; names are written by
--         deciding alone; and everything of the record has one owner, whoever has migrated.
-- Safety: changes functions and grants. Owners differ only where somebody else has migrated before.
SET LOCAL lock_timeout = '2s';

-- As the owner's trigger fires it nobody else needs to be allowed to call it, nor to make another
-- trigger of it.
REVOKE EXECUTE ON FUNCTION name_decisions() FROM PUBLIC;

DROP FUNCTION part_record(TIMESTAMPTZ);

DO $do$
DECLARE
    owner TEXT;
    one RECORD;
BEGIN
    -- Makes a part of its own for each year up to 90 days from `at`, as the owner, and says whether
    -- there is one. So many decisions at most move into it, while nothing is decided.
    EXECUTE format('CREATE FUNCTION part_record(at TIMESTAMPTZ, most BIGINT DEFAULT 100000)
        RETURNS BOOLEAN LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = %I, pg_temp SET lock_timeout = ''2s'' AS $$
        DECLARE
            year INTEGER;
            until BIGINT := extract(epoch FROM at + interval ''90 days'') * 1000000;
            has_turn BOOLEAN := false;
            is_alone BOOLEAN := false;
        BEGIN
            LOOP
                SELECT max(substring(relname FROM ''\d{4}$'')::int
                        + CASE WHEN relname LIKE ''spend_before_%%'' THEN 0 ELSE 1 END)
                    INTO STRICT year
                    FROM pg_inherits JOIN pg_class ON oid = inhrelid
                    WHERE inhparent = ''spend''::regclass AND relname <> ''spend_later'';
                IF begin_of_year(year) > until THEN
                    RETURN true;
                END IF;
                -- One after the other, and each looks again when it is its turn: two who have
                -- looked into a part would wait for each other.
                IF NOT has_turn THEN
                    PERFORM pg_advisory_xact_lock(7403, 1);
                    has_turn := true;
                    CONTINUE;
                END IF;
                IF most < (SELECT count(*) FROM (SELECT FROM spend_later
                        WHERE decided_at < begin_of_year(year + 1) LIMIT most + 1) few) THEN
                    RETURN false;
                END IF;
                IF NOT is_alone THEN
                    LOCK TABLE spend IN ACCESS EXCLUSIVE MODE;
                    is_alone := true;
                    CONTINUE;
                END IF;
                ALTER TABLE spend DETACH PARTITION spend_later;
                EXECUTE format(''CREATE TABLE spend_%%s PARTITION OF spend
                    FOR VALUES FROM (%%s) TO (%%s)'',
                    year, begin_of_year(year), begin_of_year(year + 1));
                EXECUTE format(''ALTER TABLE spend_%%s ENABLE ROW LEVEL SECURITY'', year);
                -- Their names are written: the trigger is the whole record''s, not of a part.
                EXECUTE format(''WITH moved AS (
                    DELETE FROM spend_later WHERE decided_at < begin_of_year(%%s) RETURNING *)
                    INSERT INTO spend_%%s SELECT * FROM moved'', year + 1, year);
                EXECUTE format(''ALTER TABLE spend ATTACH PARTITION spend_later
                    FOR VALUES FROM (%%s) TO (MAXVALUE)'', begin_of_year(year + 1));
            END LOOP;
        END $$', current_schema());
    REVOKE EXECUTE ON FUNCTION part_record(TIMESTAMPTZ, BIGINT) FROM PUBLIC;
    FOR one IN SELECT DISTINCT grantee::regrole::text AS role FROM pg_class, aclexplode(relacl)
        WHERE oid = 'spend'::regclass AND privilege_type = 'INSERT' AND grantee <> relowner
            AND grantee <> 0
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION part_record() TO %s', one.role);
    END LOOP;

    SELECT relowner::regrole::text INTO STRICT owner
        FROM pg_inherits JOIN pg_class ON oid = inhrelid
        WHERE inhparent = 'spend'::regclass AND relname LIKE 'spend\_before\_%';
    FOR one IN SELECT oid::regclass::text AS name FROM pg_class
        WHERE relowner <> owner::regrole AND (oid IN ('spend'::regclass, 'spend_by_id'::regclass)
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'spend'::regclass))
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %s', one.name, owner);
    END LOOP;
    FOR one IN SELECT oid::regprocedure::text AS name FROM pg_proc
        WHERE proowner <> owner::regrole AND pronamespace = to_regnamespace(current_schema())
            AND proname IN ('begin_of_year', 'name_decisions', 'part_record')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %s', one.name, owner);
    END LOOP;
END $do$;
