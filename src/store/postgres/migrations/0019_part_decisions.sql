-- Intent: the record is in parts, one for each year (UTC) in which it was decided: what an old year
--         takes is seen, backed up and moved to slower disks by itself, and is never vacuumed for
--         the sake of the present one.
-- Safety: the table of before becomes the first part as it is: nothing is read or written again.
--         A server of the release before finds the same columns under the same name.
SET LOCAL lock_timeout = '2s';

DO $do$
DECLARE
    -- The first part ends before this year.
    year INTEGER;
    part NAME;
    granted RECORD;
BEGIN
    SELECT extract(year FROM to_timestamp(substring(pg_get_constraintdef(oid)
            FROM '\d{10,}')::bigint / 1000000) AT TIME ZONE 'UTC')::int
        INTO STRICT year
        FROM pg_constraint WHERE conrelid = 'spend'::regclass AND conname = 'spend_of_first_part';
    part := format('spend_before_%s', year);

    DROP TRIGGER name_decisions ON spend;
    DROP POLICY tenant ON spend;
    DROP POLICY any_org_due ON spend;
    EXECUTE format('ALTER TABLE spend RENAME TO %I', part);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT spend_pkey', part);
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I PRIMARY KEY USING INDEX spend_place',
        part, part || '_pkey');
    EXECUTE format('ALTER INDEX spend_by_agent RENAME TO %I', part || '_by_agent');
    EXECUTE format('ALTER INDEX spend_approval RENAME TO %I', part || '_approval');
    EXECUTE format('ALTER INDEX spend_pending RENAME TO %I', part || '_pending');
    EXECUTE format('ALTER INDEX spend_due RENAME TO %I', part || '_due');
    EXECUTE format('ALTER INDEX spend_asked RENAME TO %I', part || '_asked');

    EXECUTE format('CREATE TABLE spend (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
        PARTITION BY RANGE (decided_at)', part);
    ALTER TABLE spend DROP CONSTRAINT spend_of_first_part;
    ALTER TABLE spend ADD PRIMARY KEY (org_id, seq, decided_at);
    CREATE INDEX spend_by_agent ON spend (agent_id, seq);
    CREATE INDEX spend_approval ON spend (mandate_id, decided_at, seq)
        INCLUDE (approvals_before, sum_before, amount) WHERE verdict <> 'rejected';
    CREATE INDEX spend_pending ON spend (agent_id) WHERE state = 'pending_approval';
    CREATE INDEX spend_due ON spend (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX spend_asked ON spend (org_id, seq) WHERE verdict = 'pending_approval';
    EXECUTE format('ALTER TABLE spend ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%s)',
        part, begin_of_year(year));
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT spend_of_first_part', part);
    -- Servers of the release before look for an id here. Where there were none there is no need.
    EXECUTE format('SELECT 1 FROM %I LIMIT 1', part) INTO granted;
    IF granted IS NULL THEN
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT spend_id_key', part);
    END IF;
    -- What no year has room for yet. It stays the last one, so that whoever looks for the newest
    -- of something reads the parts in their order and stops at the first that has it.
    EXECUTE format('CREATE TABLE spend_later PARTITION OF spend
        FOR VALUES FROM (%s) TO (MAXVALUE)', begin_of_year(year));
    -- A part is read as `spend` alone: without a policy of its own it shows nothing.
    ALTER TABLE spend_later ENABLE ROW LEVEL SECURITY;

    ALTER TABLE spend ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON spend USING (org_id = (SELECT current_org()));
    CREATE POLICY any_org_due ON spend FOR SELECT
        USING ((SELECT current_setting('quetra.org', true)) = '*' AND due_at IS NOT NULL);
    FOR granted IN
        SELECT acl.grantee, acl.privilege_type AS what, NULL::name AS of
            FROM pg_class, aclexplode(relacl) acl
            WHERE oid = part::regclass AND acl.grantee <> relowner
        UNION ALL SELECT acl.grantee, acl.privilege_type, attname
            FROM pg_attribute, aclexplode(attacl) acl WHERE attrelid = part::regclass
    LOOP
        EXECUTE format('GRANT %s %s ON spend TO %s', granted.what,
            coalesce('(' || quote_ident(granted.of) || ')', ''),
            CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END);
    END LOOP;
    FOR granted IN
        SELECT DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
            AS who FROM pg_class, aclexplode(relacl) acl
            WHERE oid = part::regclass AND acl.grantee <> relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %I FROM %s', part, granted.who);
    END LOOP;

    -- Makes a part of its own for each year up to 90 days from `at`, as the owner, and says whether
    -- there is one. A year whose decisions are recorded already stays with those after it.
    EXECUTE format('CREATE FUNCTION part_record(at TIMESTAMPTZ) RETURNS BOOLEAN LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = %I, pg_temp SET lock_timeout = ''2s'' AS $$
        DECLARE
            year INTEGER;
            until BIGINT := extract(epoch FROM at + interval ''90 days'') * 1000000;
            has_turn BOOLEAN := false;
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
                IF EXISTS (SELECT FROM spend_later) THEN
                    RETURN false;
                END IF;
                LOCK TABLE spend IN ACCESS EXCLUSIVE MODE;
                IF EXISTS (SELECT FROM spend_later) THEN
                    RETURN false;
                END IF;
                ALTER TABLE spend DETACH PARTITION spend_later;
                EXECUTE format(''CREATE TABLE spend_%%s PARTITION OF spend
                    FOR VALUES FROM (%%s) TO (%%s)'',
                    year, begin_of_year(year), begin_of_year(year + 1));
                EXECUTE format(''ALTER TABLE spend_%%s ENABLE ROW LEVEL SECURITY'', year);
                EXECUTE format(''ALTER TABLE spend ATTACH PARTITION spend_later
                    FOR VALUES FROM (%%s) TO (MAXVALUE)'', begin_of_year(year + 1));
            END LOOP;
        END $$', current_schema());
    -- What servers call, again and again: the present time is nothing that they are asked for.
    EXECUTE format('CREATE FUNCTION part_record() RETURNS BOOLEAN LANGUAGE sql
        SECURITY DEFINER SET search_path = %I, pg_temp AS $$ SELECT part_record(now()) $$',
        current_schema());
    REVOKE EXECUTE ON FUNCTION part_record(TIMESTAMPTZ), part_record() FROM PUBLIC;
    PERFORM part_record();
END $do$;

CREATE TRIGGER name_decisions AFTER INSERT ON spend REFERENCING NEW TABLE AS recorded
    FOR EACH STATEMENT EXECUTE FUNCTION name_decisions();
