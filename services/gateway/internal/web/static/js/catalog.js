// What the demonstration shop shows. All of it is made up.

export const PRODUCTS = {
  tents: [
    {
      id: 'tarn-2', name: 'Tarn 2', price: '€ 389', image: '/static/img/tent-dome.svg',
      line: 'A dome for two that stands anywhere.',
      details: ['2 people, 2.1 kg', 'Free-standing, two doors', 'Fly and poles repaired for life'],
    },
    {
      id: 'skerry-4', name: 'Skerry 4', price: '€ 649', image: '/static/img/tent-tunnel.svg',
      line: 'A tunnel with a porch for wet boots and wet dogs.',
      details: ['4 people, 4.6 kg', 'Two bedrooms, 3 m² porch', 'Pitches in one piece, even in wind'],
    },
    {
      id: 'heath', name: 'Heath tarp', price: '€ 129', image: '/static/img/tent-tarp.svg',
      line: 'Less than a tent, more than the sky.',
      details: ['1 to 3 people, 620 g', 'Sixteen tie-outs', 'Doubles as a cooking shelter'],
    },
  ],
  boots: [
    {
      id: 'scree-mid', name: 'Scree Mid', price: '€ 219', image: '/static/img/boot-hike.svg',
      line: 'The one most people come back for.',
      details: ['Full-grain leather, resoleable', 'Sizes 36 to 48, two widths', '1,180 g a pair (size 42)'],
    },
    {
      id: 'drift-low', name: 'Drift Low', price: '€ 149', image: '/static/img/boot-trail.svg',
      line: 'Light, quick, happy on gravel.',
      details: ['Recycled mesh, rock plate', 'Drains in minutes', '620 g a pair (size 42)'],
    },
    {
      id: 'rime-high', name: 'Rime High', price: '€ 289', image: '/static/img/boot-winter.svg',
      line: 'Warm to minus twenty, and dry.',
      details: ['Removable felt liner', 'Takes snowshoes and gaiters', 'Resoleable, waxed leather'],
    },
  ],
};

/** The products that the home page leads with. */
export const POPULAR = [PRODUCTS.tents[0], PRODUCTS.boots[0], PRODUCTS.tents[1]];
