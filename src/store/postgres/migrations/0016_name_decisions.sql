-- Intent: where in the record the decision of an id is, and that an id is of one decision alone,
--         is said by a table of its own: once the record is in parts by time, no index over all of
--         them can.
-- Safety: adds a table that every server fills without knowing, and a check that nothing violates.
SET LOCAL lock_timeout = '2s';

-- When a year begins, in UTC.
CREATE FUNCTION begin_of_year(year INTEGER) RETURNS BIGINT LANGUAGE sql STABLE AS $$
    SELECT (extract(epoch FROM make_timestamptz(year, 1, 1, 0, 0, 0, 'UTC')) * 1000000)::bigint
$$;

-- Written with `spend`, in the same statement, and never changed.
CREATE TABLE spend_by_id (
    -- A derived id is decided once, whichever servers are asked at the same time.
    id               BYTEA   NOT NULL PRIMARY KEY,
    org_id           BYTEA   NOT NULL,
    seq              BIGINT  NOT NULL,
    decided_at       BIGINT  NOT NULL
);

-- The places of an organization's record, and the time that is at each.
CREATE UNIQUE INDEX spend_by_id_place ON spend_by_id (org_id, seq) INCLUDE (decided_at);

ALTER TABLE spend_by_id ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON spend_by_id USING (org_id = (SELECT current_org()));

-- As the owner: a server may append to it only by deciding.
DO $do$
DECLARE
    reader NAME;
BEGIN
    EXECUTE format('CREATE FUNCTION name_decisions() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = %I, pg_temp AS $$
        BEGIN
            INSERT INTO spend_by_id (id, org_id, seq, decided_at)
                SELECT id, org_id, seq, decided_at FROM recorded;
            RETURN NULL;
        END $$', current_schema());
    -- Who reads decisions finds them by it.
    FOR reader IN SELECT DISTINCT grantee::regrole FROM pg_class, aclexplode(relacl)
        WHERE oid = 'spend'::regclass AND privilege_type = 'SELECT' AND grantee <> relowner
            AND grantee <> 0
    LOOP
        EXECUTE format('GRANT SELECT ON spend_by_id TO %s', reader);
    END LOOP;
    -- What is recorded until the record is in parts is in the first of them: it ends with a year.
    EXECUTE format('ALTER TABLE spend ADD CONSTRAINT spend_of_first_part
        CHECK (decided_at < %s) NOT VALID',
        begin_of_year(1 + extract(year FROM now() AT TIME ZONE 'UTC' + interval '30 days')::int));
END $do$;

CREATE TRIGGER name_decisions AFTER INSERT ON spend REFERENCING NEW TABLE AS recorded
    FOR EACH STATEMENT EXECUTE FUNCTION name_decisions();
