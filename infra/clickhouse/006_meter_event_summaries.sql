-- The public SQL face: summaries of one event name, merged from shards, per window, customer and dimensions asked for.
-- Parameters and columns are documented in README.md. All whole numbers of time are milliseconds.

CREATE OR REPLACE VIEW meter_event_summaries AS
WITH
    {window:String} AS unit,
    -- Windows reach beyond the range asked for by a month at most.
    (
        SELECT arrayFilter(
            piece -> piece.ends > toUnixTimestamp64Milli({start:DateTime64(3, 'UTC')}) - 3456000000
                AND piece.starts < toUnixTimestamp64Milli({end:DateTime64(3, 'UTC')}) + 3456000000,
            pieces)
        FROM zones FINAL
        WHERE zone = {zone:String}
    ) AS found,
    -- While a query is planned the subquery above is empty, and roundDown() refuses an empty array.
    if(empty(found), [(0, 0, 0, 0)]::Array(Tuple(starts Int64, ends Int64, offset Int64, local_starts Int64)), found) AS time_line,
    time_line.starts AS starts,
    time_line.ends AS ends,
    time_line.offset AS offsets,
    time_line.local_starts AS local_starts,
    -- The first instant at which the zone's clocks show `local` or later.
    (local -> greatest(
        transform(roundDown(local, local_starts), local_starts, starts),
        local - transform(roundDown(local, local_starts), local_starts, offsets)
    )) AS instant,
    -- avg is exact: whole units of 10^-12 are divided, and half a unit goes to the even neighbour.
    reinterpret(total, 'Int256') AS units,
    intDiv(units, toInt256(events)) AS quotient,
    2 * abs(units - quotient * toInt256(events)) AS twice_rest,
    twice_rest > events OR (twice_rest = events AND bitAnd(quotient, toInt256(1)) = 1) AS away_from_zero
SELECT
    {livemode:Bool} AS livemode,
    {event_name:String} AS event_name,
    customer_or_all AS customer,
    greatest({start:DateTime64(3, 'UTC')}, fromUnixTimestamp64Milli(multiIf(
        unit = 'none', toInt64(-2208988800000),
        unit = 'minute', local,
        unit = 'hour', greatest(local - transform(segment, starts, offsets), segment),
        instant(local)
    ), 'UTC')) AS window_start,
    least({end:DateTime64(3, 'UTC')}, fromUnixTimestamp64Milli(multiIf(
        unit = 'none', toInt64(10413791999999),
        unit = 'minute', local + 60000,
        unit = 'hour', least(local - transform(segment, starts, offsets) + 3600000, transform(segment, starts, ends)),
        unit = 'day', instant(local + 86400000),
        instant(toInt64(addMonths(toDate32(fromUnixTimestamp64Milli(local, 'UTC')), 1)) * 86400000)
    ), 'UTC')) AS window_end,
    kept AS dimensions,
    events AS count,
    total AS sum,
    smallest AS min,
    largest AS max,
    reinterpret(quotient + if(away_from_zero, sign(units), 0), 'Decimal(76, 12)') AS avg,
    last_one AS last,
    latest_one AS latest
FROM
(
    SELECT
        customer_or_all, kept, segment, local,
        sum(count) AS events,
        sum(sum) AS total,
        min(min) AS smallest,
        max(max) AS largest,
        argMax(last_value, (last_timestamp, last_appended_at, shard, last_offset)) AS last_one,
        argMax(latest_value, (latest_appended_at, shard, latest_offset)) AS latest_one
    FROM
    (
        WITH
            toUnixTimestamp64Milli(window_start) AS ms,
            roundDown(ms, starts) AS piece,
            ms + transform(piece, starts, offsets) AS shown,
            fromUnixTimestamp64Milli(shown, 'UTC') AS calendar
        SELECT
            *,
            if({by_customer:Bool}, customer, '') AS customer_or_all,
            mapFilter((name, value) -> has({group_by:Array(String)}, name), dimensions) AS kept,
            -- An hour that the clocks show twice is two windows; a day or month is one, however it is cut.
            if(unit = 'hour', piece, 0) AS segment,
            multiIf(
                unit = 'none', 0,
                unit = 'minute', ms,
                unit = 'hour', shown - positiveModulo(shown, 3600000),
                unit = 'day', shown - positiveModulo(shown, 86400000),
                (toInt64(toDate32(calendar)) - toDayOfMonth(calendar) + 1) * 86400000
            ) AS local
        FROM summary_shards
        WHERE livemode = {livemode:Bool}
            AND event_name = {event_name:String}
            AND (empty({customers:Array(String)}) OR customer IN {customers:Array(String)})
            AND window_start >= {start:DateTime64(3, 'UTC')}
            AND window_start < {end:DateTime64(3, 'UTC')}
            AND count > 0
            AND arrayAll(
                (name, accepted) -> mapContains(dimensions, name) AND has(accepted, dimensions[name]),
                mapKeys({filter:Map(String, Array(String))}), mapValues({filter:Map(String, Array(String))}))
            AND NOT throwIf(
                unit NOT IN ('none', 'minute', 'hour', 'day', 'month') AND shard >= 0,
                'window: none, minute, hour, day or month')
            AND NOT throwIf(empty(found) AND shard >= 0, 'zone: a name of the IANA time zone database')
    )
    GROUP BY customer_or_all, kept, segment, local
);
